#!/usr/bin/env bash
# Makes .venv and installs what constraints.txt and requirements-corpus.txt name. `make` calls it; pip's own output goes to .venv/install.log.
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
  for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    if [ -n "$name" ] && "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "Python 3.11 or newer with venv was not found." >&2
  echo "  fix:   install python3.11 and python3.11-venv, or name one: make demo PYTHON=/path/to/python3.11" >&2
  exit 2
}

# step SECONDS TEXT COMMAND...: run quietly, say every 15 s how far it is, show the log's end if it fails
step() {
  local expected=$1 text=$2 start=$SECONDS job
  shift 2
  echo "$text (about $(((expected + 59) / 60)) min) ..."
  "$@" >>"$log" 2>&1 &
  job=$!
  trap 'kill "$job" 2>/dev/null; echo; echo "Stopped. Run the same command again: it goes on."; exit 130' INT TERM
  while kill -0 "$job" 2>/dev/null; do
    sleep 1
    local spent=$((SECONDS - start))
    if ((spent % 15 == 0)); then
      local left=$((expected - spent))
      ((left > 0)) && echo "  $spent s, about $left s left" || echo "  $spent s, longer than usual: the network or the disk is slow"
    fi
  done
  trap - INT TERM
  if ! wait "$job"; then
    echo "Installing failed; the end of $log:" >&2
    grep -v '^WARNING' "$log" | tail -n 15 >&2
    echo "  fix:   check the connection to the package registry, then run the same command again" >&2
    exit 2
  fi
}

python=$(find_python)
[ -x .venv/bin/python ] || "$python" -m venv .venv
log=.venv/install.log
: >"$log"
pip=(.venv/bin/python -m pip --disable-pip-version-check)
count=$(grep -cE '^[a-z]' constraints.txt)

"${pip[@]}" install --upgrade 'pip>=25' >>"$log" 2>&1 || true # an old pip works too, only slower
# Every version stands in constraints.txt, so nothing has to be resolved; what is imported is compiled when it is first used.
step 150 "Installing $count packages into .venv" "${pip[@]}" install --no-compile --no-deps -r constraints.txt
# A torch build for GPUs needs libraries that depend on the platform and so stand in no list of ours; a CPU build needs none.
step 15 "Completing torch" "${pip[@]}" install --no-compile -c constraints.txt torch
step 20 "Installing the packages the starter corpus is made of" "${pip[@]}" install --no-compile --no-deps -r requirements-corpus.txt
step 15 "Installing tailmark" "${pip[@]}" install --no-deps -e '.'
touch .venv/installed
