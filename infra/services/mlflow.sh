#!/usr/bin/env bash
# MLflow's server: runs and registry in PostgreSQL, artifacts in the bucket `mlflow` and handed out by the server, so clients need no key of the store.
# Only the proxy's name and the names inside are answered (--allowed-hosts: against DNS rebinding), and only the proxy's own pages may write
# (--cors-allowed-origins). Reads PGHOST, PGPORT, PGPASSWORD, AWS_*, TAILMARK_HOST, TAILMARK_MLFLOW_PORT; LISTEN is address:port.
set -euo pipefail

listen=${LISTEN:-0.0.0.0:5000}
public=${TAILMARK_HOST:?}:${TAILMARK_MLFLOW_PORT:-5000}
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export AWS_REQUEST_CHECKSUM_CALCULATION=when_required # not every store knows the newer checksums

exec mlflow server --host "${listen%:*}" --port "${listen##*:}" --workers "${TAILMARK_MLFLOW_WORKERS:-2}" \
  --backend-store-uri "postgresql://mlflow@$PGHOST:${PGPORT:-5432}/mlflow" \
  --serve-artifacts --artifacts-destination s3://mlflow \
  --allowed-hosts "$TAILMARK_HOST,$public,mlflow:${listen##*:},localhost:${listen##*:},127.0.0.1:${listen##*:}" \
  --cors-allowed-origins "https://$public" --x-frame-options DENY
