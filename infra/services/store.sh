# shellcheck shell=bash
# Sourced: makes rclone know the store as `store:` by environment variables alone, so that keys are in no file and no argument.
export RCLONE_CONFIG=/dev/null
export RCLONE_CONFIG_STORE_TYPE=s3 RCLONE_CONFIG_STORE_PROVIDER=Other RCLONE_CONFIG_STORE_FORCE_PATH_STYLE=true
export RCLONE_CONFIG_STORE_ENDPOINT=${AWS_ENDPOINT_URL:?} RCLONE_CONFIG_STORE_REGION=${AWS_DEFAULT_REGION:-us-east-1}
export RCLONE_CONFIG_STORE_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:?} RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:?}
export TAILMARK_BUCKETS=${TAILMARK_BUCKETS:-mlflow dvc}
# For what may take long: a line every half minute, with the time left.
# shellcheck disable=SC2034
progress=(--stats 30s --stats-one-line --stats-log-level NOTICE)
