#!/usr/bin/env bash
# The roles and databases of MLflow and Prefect, each owned by a role of its own. Run at every start: what is there stays, passwords are set again.
# Reads PGHOST, PGPORT, PGUSER and PGPASSWORD (the administrator) and MLFLOW_DB_PASSWORD, PREFECT_DB_PASSWORD.
set -euo pipefail

for name in mlflow prefect; do
  variable=${name^^}_DB_PASSWORD
  # Values go through the environment and psql's \getenv: in arguments the process list would show them.
  export ROLE=$name ROLE_PASSWORD=${!variable:?}
  psql --dbname postgres --quiet --no-psqlrc --set ON_ERROR_STOP=1 <<'SQL'
\getenv role ROLE
\getenv password ROLE_PASSWORD
SELECT format('CREATE ROLE %I LOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' TEMPLATE template0', :'role', :'role')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'role') \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'role') \gexec
SQL
  echo "database $name is there"
done
