#!/usr/bin/env bash
# backup.sh FOLDER: copy registry and runs (database and artifacts of MLflow), Prefect's database, the DVC remote and the checkout's git history
# into FOLDER/<time>. Services may run meanwhile. What refers goes first, what is referred to last, and what a registered version or a commit names
# is never changed: so everything that a restored row or commit names is there. `mlflow gc` and `dvc gc` must not run at the same time.
# Objects that the newest backup in FOLDER holds already are linked, not copied again. The folder gets its name when all is there and checked.
# Reads PGHOST, PGPORT, PGUSER, PGPASSWORD (the administrator), AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, TAILMARK_CHECKOUT.
set -euo pipefail
services=$(cd "$(dirname "$0")" && pwd)/services
umask 077

folder=${1:-}
if [ -z "$folder" ] || [ ! -d "$folder" ]; then
  echo "usage: infra/backup.sh FOLDER    (a folder that is there; each backup becomes a folder in it)" >&2
  exit 2
fi
# shellcheck source=infra/services/store.sh
. "$services/store.sh"

started=$SECONDS
name=$(date --utc +%Y-%m-%dT%H%M%SZ)
target=$folder/$name
partial=$folder/.$name.partial
last=$(find "$folder" -mindepth 2 -maxdepth 2 -name SHA256SUMS -printf '%h\n' | sort | tail -n 1)
if [ -e "$target" ] || ! mkdir "$partial"; then
  echo "$target is there already, or another backup is being made." >&2
  exit 2
fi
trap 'rm -rf "$partial"' EXIT
say() { echo "$(date +%T) $*"; }

if [ -n "${TAILMARK_CHECKOUT:-}" ]; then
  say "git history of $TAILMARK_CHECKOUT"
  git -C "$TAILMARK_CHECKOUT" bundle create --quiet "$(realpath "$partial")/repository.bundle" --all
fi

for database in mlflow prefect; do
  say "database $database"
  pg_dump --format custom --file "$partial/$database.dump" "$database"
  psql --no-psqlrc --tuples-only --no-align --dbname "$database" \
    --command "SELECT '$database schema ' || version_num FROM alembic_version" >>"$partial/about.txt"
done
psql --no-psqlrc --tuples-only --no-align --dbname postgres --command 'SELECT version()' >>"$partial/about.txt"

for bucket in $TAILMARK_BUCKETS; do
  say "bucket $bucket"
  mkdir -p "$partial/objects/$bucket"
  [ -d "${last:+$last/objects/$bucket}" ] && cp --archive --link "$last/objects/$bucket" "$partial/objects/"
  rclone sync "${progress[@]}" "store:$bucket" "$partial/objects/$bucket"
  # In this direction, since runs may have written more meanwhile.
  rclone check "$partial/objects/$bucket" "store:$bucket" --one-way --quiet
done

say "checksums"
sums=$(cd "$partial" && find . -type f -print0 | sort --zero-terminated | xargs --null sha256sum)
echo "$sums" >"$partial/SHA256SUMS"
sync --file-system "$partial"
mv --no-target-directory "$partial" "$target"
trap - EXIT
say "$target: $(wc -l <"$target/SHA256SUMS") files, $(du --summarize --human-readable "$target" | cut -f 1), in $((SECONDS - started)) s"
