#!/usr/bin/env bash
# migrate.sh mlflow|prefect: bring a database to the schema of the installed version. Run before the server at every start; where nothing
# changed it does nothing. Reads PGHOST, PGPORT and PGPASSWORD; passwords are in no address, which the process list would show.
set -euo pipefail

case ${1:?mlflow or prefect} in
  mlflow) mlflow db upgrade "postgresql://mlflow@$PGHOST:${PGPORT:-5432}/mlflow" ;;
  prefect)
    export PREFECT_SERVER_DATABASE_CONNECTION_URL="postgresql+asyncpg://prefect@$PGHOST:${PGPORT:-5432}/prefect"
    prefect server database upgrade --yes
    ;;
  *)
    echo "no such database: $1" >&2
    exit 2
    ;;
esac
