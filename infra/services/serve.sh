#!/usr/bin/env bash
# The champion behind an OpenAI-compatible API; when the alias moves, the server follows. Before there is a champion it ends and says so.
# Reads MLFLOW_TRACKING_URI, TAILMARK_SERVE_KEY, TAILMARK_SERVED (a folder for what is downloaded); LISTEN is address:port.
set -euo pipefail

listen=${LISTEN:-0.0.0.0:8000}
TAILMARK_API_KEYS=default=$(printf %s "${TAILMARK_SERVE_KEY:?}" | sha256sum | cut -d ' ' -f 1)
export TAILMARK_API_KEYS
unset TAILMARK_SERVE_KEY # the server knows the hash alone
cd "${TAILMARK_SERVED:?}"

exec tailmark serve --model "${TAILMARK_MODEL:-models:/tailmark@champion}" --host "${listen%:*}" --port "${listen##*:}"
