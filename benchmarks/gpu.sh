#!/usr/bin/env bash
# Training speed on one GPU, on a machine without network, in under ten minutes: our loop beside transformers' Trainer and TRL's
# SFTTrainer, then MFU of SmolLM2-135M's shape and of a Llama of 1.7B parameters, ZeRO 1 to 3, with and without Liger and compile.
#
#   benchmarks/gpu.sh --download WHEELS      where there is network: fetch what the GPU machine may lack, all but torch and Triton
#   benchmarks/gpu.sh WHEELS [OUT]           on the GPU machine: install beside its own torch, measure, print the tables, keep them in OUT
#   benchmarks/gpu.sh --device cpu --tiny [OUT]   anywhere, with the Python at hand: shows that it runs
#
# PYTHON names the interpreter (python3), VENV where packages go (a temporary folder). Nothing outside both is changed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BUDGET=570 COMPARISON=200 # seconds; MFU has what is left
python=${PYTHON:-python3}

# Everything that training imports, and what that needs. Versions are those of constraints.txt.
packages=(
  accelerate aiohappyeyeballs aiohttp aiosignal annotated-doc annotated-types anyio attrs certifi charset-normalizer click datasets
  deepspeed dill einops filelock frozenlist fsspec h11 hf-xet hjson httpcore httpcore2 httpx httpx2 huggingface-hub idna jinja2
  markdown-it-py markupsafe mdurl msgpack multidict multiprocess ninja numpy packaging pandas peft propcache psutil py-cpuinfo pyarrow
  pydantic pydantic-core pygments python-dateutil pyyaml regex requests rich ruamel-yaml safetensors setuptools shellingham six
  tokenizers tqdm transformers truststore typer typing-extensions typing-inspection tzdata urllib3 xxhash yarl
)

say() { printf '%s\n' "$@"; }

pinned() { # the versions of the packages, one a line
  "$python" - "${packages[@]}" <<'PY'
import re, sys
names = set(sys.argv[1:])
for line in open("constraints.txt", encoding="utf-8"):
    name = re.split(r"[=<>;\[ ]", line.strip().lower())[0].replace("_", "-").replace(".", "-")
    if "==" in line and name in names:
        print(line.split(";")[0].strip())
PY
  grep -hv '^#' requirements-bench.txt requirements-gpu.txt
}

download() {
  mkdir -p "$1"
  pinned > "$1/requirements.txt"
  # A wheel is made of what has none (DeepSpeed), without compiling its operators: they are made on the GPU machine, where needed.
  DS_BUILD_OPS=0 "$python" -m pip wheel --quiet --no-deps --wheel-dir "$1" --requirement "$1/requirements.txt"
  say "$(find "$1" -name '*.whl' | wc -l) wheels in $1, for $("$python" --version)"
}

install() { # into an environment that sees the machine's own torch
  local wheels=$1 environment=${VENV:-$(mktemp -d)/venv}
  "$python" -m venv --system-site-packages "$environment"
  python=$environment/bin/python
  "$python" -m pip install --quiet --no-index --no-deps --find-links "$wheels" --requirement "$wheels/requirements.txt"
  export PATH=$environment/bin:$PATH # DeepSpeed looks for ninja there
}

measure() { # with the options `compare` and `matrix` of the two benchmarks
  local out=$1 status=0
  mkdir -p "$out"
  export PYTHONPATH=$PWD/src HF_HUB_OFFLINE=1 DO_NOT_TRACK=true PYTHONWARNINGS=ignore TOKENIZERS_PARALLELISM=false
  say "== our loop beside Trainer and SFTTrainer"
  timeout "$COMPARISON" "$python" benchmarks/train.py "${compare[@]}" --output "$out/train.json" 2> "$out/train.log" || status=$?
  [ "$status" = 0 ] || say "ended with $status (124: the time was up); $out/train.log ends with: $(tail -n 1 "$out/train.log")"
  say "" "== share of the arithmetic that is used"
  local minutes
  minutes=$("$python" -c "print(max(($BUDGET - $SECONDS) / 60, 0.5))")
  "$python" benchmarks/mfu.py "${matrix[@]}" --minutes "$minutes" --output "$out/mfu.jsonl" 2> "$out/mfu.log" || status=$?
  say "" "$SECONDS s in all; results in $out"
  return "$status"
}

case ${1:-} in
  --download)
    download "${2:?usage: gpu.sh --download WHEELS}"
    ;;
  --device)
    [ "${2:-} ${3:-}" = "cpu --tiny" ] || { say "usage: gpu.sh --device cpu --tiny [OUT]" >&2; exit 2; }
    compare=(--shape tiny --rows 16 --rounds 1 --threads 1)
    matrix=(--tiny --pack-length 1024 --steps 2)
    measure "${4:-gpu-results}"
    ;;
  "" | -*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
  *)
    install "$(cd "$1" && pwd)"
    "$python" -c 'import torch; raise SystemExit(0 if torch.cuda.is_available() else "torch sees no GPU here")'
    compare=(--rows 2048 --rows-per-step 128 --pack-length 8192 --rounds 3 --threads 8)
    matrix=()
    measure "${2:-gpu-results}"
    ;;
esac
