#!/usr/bin/env bash
# account.sh NAME: add an account for MLflow and Prefect, or give it another password, which is read from the terminal or from standard input.
# account.sh --remove NAME: take it away. The proxy reads the file at every request, so neither needs a restart.
set -euo pipefail
file=${TAILMARK_SECRETS:-$(dirname "$0")/secrets}/htpasswd

remove=
[ "${1:-}" = --remove ] && remove=1 && shift
name=${1:-}
if ! [[ $name =~ ^[A-Za-z0-9._@-]+$ ]]; then
  echo "usage: infra/account.sh [--remove] NAME    (letters, digits, . _ @ -)" >&2
  exit 2
fi
if [ ! -e "$file" ]; then
  echo "$file is not there." >&2
  echo "  fix:   run \`make secrets\` first" >&2
  exit 2
fi

line=
if [ -z "$remove" ]; then
  [ -t 0 ] && printf 'Password for %s: ' "$name" >&2
  IFS= read -rs password || true
  [ -t 0 ] && echo >&2
  if [ ${#password} -lt 12 ]; then
    echo "A password has 12 characters or more." >&2
    exit 2
  fi
  line=$name:$(printf '%s' "$password" | openssl passwd -6 -stdin)
fi
others=$(awk -F: -v name="$name" '$1 != name' "$file")
# Written in place, since a container holds on to the file itself and would not see another one under its name.
printf '%s\n' "$others" "$line" | sed '/^$/d' >"$file"
echo "$(grep -c . "$file" || true) accounts in $file"
