#!/usr/bin/env bash
# Prefect's server on PostgreSQL. migrate.sh has brought the schema up, so the server does not. Reads PGHOST, PGPORT, PGPASSWORD, TAILMARK_HOST,
# TAILMARK_PREFECT_PORT; LISTEN is address:port.
set -euo pipefail

listen=${LISTEN:-0.0.0.0:4200}
public=https://${TAILMARK_HOST:?}:${TAILMARK_PREFECT_PORT:-4200}
export PREFECT_SERVER_DATABASE_CONNECTION_URL="postgresql+asyncpg://prefect@$PGHOST:${PGPORT:-5432}/prefect"
export PREFECT_SERVER_DATABASE_MIGRATE_ON_START=false
export PREFECT_SERVER_UI_API_URL=$public/api
export PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS=$public
export PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED=true
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=true

exec prefect server start --host "${listen%:*}" --port "${listen##*:}"
