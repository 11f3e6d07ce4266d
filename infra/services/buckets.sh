#!/usr/bin/env bash
# The buckets of the S3-compatible store: `mlflow` for artifacts, `dvc` for the DVC remote. What is there stays.
# Reads AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=infra/services/store.sh
. services/store.sh

for bucket in $TAILMARK_BUCKETS; do
  rclone mkdir "store:$bucket"
  echo "bucket $bucket is there"
done
