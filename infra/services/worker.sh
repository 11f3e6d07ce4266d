#!/usr/bin/env bash
# A worker of the pool TAILMARK_POOL in the checkout TAILMARK_CHECKOUT, with the bucket `dvc` as its DVC remote. Where TAILMARK_REPOSITORY is named,
# the checkout is cloned from there, and brought to its newest commit at each start. Reads PREFECT_API_URL, MLFLOW_TRACKING_URI, AWS_*.
set -euo pipefail

checkout=${TAILMARK_CHECKOUT:?}
if [ ! -e "$checkout/.git" ]; then
  git clone "${TAILMARK_REPOSITORY:?}" "$checkout"
elif [ -n "${TAILMARK_REPOSITORY:-}" ]; then
  git -C "$checkout" pull --ff-only || echo "the checkout stays at $(git -C "$checkout" rev-parse --short HEAD)" >&2
fi
cd "$checkout"
git config user.email >/dev/null || git config user.email "worker@${TAILMARK_HOST:-localhost}"
git config user.name >/dev/null || git config user.name "tailmark worker"
# A user's own remote stays; only the local, uncommitted configuration is written.
if [ -z "$(dvc remote default 2>/dev/null | grep -v 'No default' || true)" ]; then
  dvc remote add --local --force --default store s3://dvc
  dvc remote modify --local store endpointurl "${AWS_ENDPOINT_URL:?}"
fi
export PYTHONPATH="$checkout/src:$checkout"
export PREFECT_FLOWS_HEARTBEAT_FREQUENCY=${PREFECT_FLOWS_HEARTBEAT_FREQUENCY:-30} # by which a run whose process is gone is noticed
export AWS_REQUEST_CHECKSUM_CALCULATION=when_required

exec prefect worker start --pool "${TAILMARK_POOL:-tailmark}" --type "${TAILMARK_POOL_TYPE:-process}" \
  --limit "${TAILMARK_RUNS_AT_A_TIME:-2}" --install-policy never
