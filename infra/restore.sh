#!/usr/bin/env bash
# restore.sh BACKUP: put a backup of backup.sh into empty databases and buckets, and its git history into TAILMARK_CHECKOUT where that is named.
# Nothing is overwritten: where a database has a table, a bucket an object, or the checkout is there, it stops before anything is written.
# Then start the other services: their migrations bring older schemas up. Reads what backup.sh reads.
set -euo pipefail
services=$(cd "$(dirname "$0")" && pwd)/services

backup=${1:-}
if [ -z "$backup" ] || [ ! -f "$backup/SHA256SUMS" ]; then
  echo "usage: infra/restore.sh BACKUP    (a folder that backup.sh made, with SHA256SUMS in it)" >&2
  exit 2
fi
# shellcheck source=infra/services/store.sh
. "$services/store.sh"
say() { echo "$(date +%T) $*"; }
refuse() {
  echo "$1" >&2
  echo "  fix:   restore into new databases and buckets (docs/operations.md), or empty them yourself" >&2
  exit 2
}

for database in mlflow prefect; do
  tables=$(psql --no-psqlrc --tuples-only --no-align --dbname "$database" --command "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
  [ "$tables" -eq 0 ] || refuse "The database $database is not empty: it has $tables tables."
done
for bucket in $TAILMARK_BUCKETS; do
  rclone mkdir "store:$bucket"
  [ -z "$(rclone lsf --recursive --files-only "store:$bucket" | head -n 1)" ] || refuse "The bucket $bucket is not empty."
done
[ -z "${TAILMARK_CHECKOUT:-}" ] || [ ! -e "$TAILMARK_CHECKOUT/.git" ] || refuse "$TAILMARK_CHECKOUT is a checkout already."

say "checking $(wc -l <"$backup/SHA256SUMS") files"
if ! (cd "$backup" && sha256sum --check --quiet --strict SHA256SUMS); then
  echo "The backup is not as it was written; nothing was restored." >&2
  echo "  fix:   take another copy of it, or an older one" >&2
  exit 2
fi

# Objects first: no row is seen whose files are not there.
for bucket in $TAILMARK_BUCKETS; do
  say "bucket $bucket"
  [ -d "$backup/objects/$bucket" ] || continue
  rclone copy "${progress[@]}" "$backup/objects/$bucket" "store:$bucket"
  rclone check "$backup/objects/$bucket" "store:$bucket" --one-way --quiet
done
for database in mlflow prefect; do
  say "database $database"
  pg_restore --dbname "$database" --no-owner --role "$database" --exit-on-error --single-transaction "$backup/$database.dump"
done
if [ -n "${TAILMARK_CHECKOUT:-}" ] && [ -f "$backup/repository.bundle" ]; then
  say "git history into $TAILMARK_CHECKOUT"
  git clone --quiet "$(realpath "$backup")/repository.bundle" "$TAILMARK_CHECKOUT"
  git -C "$TAILMARK_CHECKOUT" fetch --quiet origin '+refs/*:refs/*' --update-head-ok
fi
say "restored; start the services now"
