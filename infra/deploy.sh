#!/usr/bin/env bash
# The deployments, made from inside the worker's container or pod: in its checkout, which is where flows run.
set -euo pipefail
cd "${TAILMARK_CHECKOUT:?}"
exec env PYTHONPATH="$PWD/src:$PWD" python -m infra.deploy
