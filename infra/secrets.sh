#!/usr/bin/env bash
# Writes what a server of your own must have before its first start, each only where it is not there yet:
#   infra/.env                  .env.example with a random secret for every empty one
#   infra/secrets/tls.{crt,key} a certificate that this machine signed itself for TAILMARK_HOST; put your own in its place
#   infra/secrets/htpasswd      the accounts, empty: infra/account.sh NAME adds one
# TAILMARK_SECRETS names another folder for all three.
set -euo pipefail
cd "$(dirname "$0")"
umask 077

env=${TAILMARK_ENV:-.env}
secrets=${TAILMARK_SECRETS:-secrets}

if [ -e "$env" ]; then
  echo "$env is there and stays"
else
  while IFS= read -r line; do
    case $line in
      POSTGRES_PASSWORD= | *_DB_PASSWORD= | STORE_*= | TAILMARK_SERVE_KEY=) echo "$line$(openssl rand -hex 24)" ;;
      TAILMARK_UID=) echo "$line$(id -u)" ;;
      TAILMARK_GID=) echo "$line$(id -g)" ;;
      TAILMARK_HOST=*) echo "TAILMARK_HOST=${TAILMARK_HOST:-${line#*=}}" ;;
      *) echo "$line" ;;
    esac
  done <.env.example >"$env"
  echo "wrote $env, with new secrets"
fi

mkdir -p "$secrets"
if [ -e "$secrets/tls.crt" ]; then
  echo "$secrets/tls.crt is there and stays"
else
  host=$(sed -n 's/^TAILMARK_HOST=//p' "$env")
  kind=DNS
  [[ $host =~ ^[0-9.]+$ ]] && kind=IP
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 -subj "/CN=$host" \
    -addext "subjectAltName=$kind:$host" -keyout "$secrets/tls.key" -out "$secrets/tls.crt" 2>/dev/null
  echo "wrote $secrets/tls.crt for $host, signed by itself: browsers warn, and clients must be told to trust this file"
fi
[ -e "$secrets/htpasswd" ] || : >"$secrets/htpasswd"
# The proxy's container runs as another user. It reads the folder through the group it is given, see compose.yaml.
chmod 750 "$secrets"
chmod 640 "$secrets"/*
[ -s "$secrets/htpasswd" ] || echo "nobody can log in yet: infra/account.sh NAME adds an account"
