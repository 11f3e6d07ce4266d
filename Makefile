# The two commands for everyone: `make demo` and `make test`. `make help` lists the others.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Packages are compiled when first imported; where that is forbidden, each start would take half a minute.
export PYTHONDONTWRITEBYTECODE :=
export HF_HUB_OFFLINE ?= 1
export DO_NOT_TRACK ?= true
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false

STORE := sqlite:///$(CURDIR)/.tailmark/mlflow/mlflow.db
EVALUATION_SETS ?= ../shared/data/eval
JOBS ?= 1
CONCURRENCY ?= 1
MINUTES ?= 60
REV ?= HEAD
TEST_JOBS ?= 2
SWEEPS ?= sweeps/paper.yaml sweeps/paper-ablation.yaml sweeps/paper-dropouts.yaml sweeps/paper-confusion.yaml

.DEFAULT_GOAL := help
.PHONY: help install demo test slow engines soak chaos suite experiment lint types docs reference check mlflow plots prefect secrets server deploy backup restore infra-check constraints clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Installed again when the versions change, not when a source file does: the package is installed in place.
.venv/installed: pyproject.toml constraints.txt requirements-corpus.txt
	@infra/install.sh

install: .venv/installed  ## make .venv

demo: .venv/installed  ## run the whole pipeline on the CPU: a marked model, its baseline, the lifts
	@python -m flows.pipeline --jobs $(JOBS)

# Two files at a time, a thread each: long files stand first in the order of collection, short ones fill up the end.
test: .venv/installed  ## all tests, TEST_JOBS (default 2) at a time
	@OMP_NUM_THREADS=1 python -m pytest --numprocesses $(TEST_JOBS) --dist loadfile --no-loadscope-reorder

slow: .venv/installed  ## the tests that take minutes, and those in a browser: twenty kills, a Ray cluster, a served model
	@pip install --quiet --constraint constraints.txt --requirement requirements-ray.txt --requirement requirements-lm-eval.txt --requirement requirements-server.txt --requirement requirements-browser.txt 'moto[server]'
	@python -m pytest -m slow
	@python -m pytest tests/integration/test_playground.py

# vLLM needs another FastAPI than Prefect does; torch's companions that come with it are for GPUs and end its import.
.venv-vllm/installed: requirements-vllm.txt | .venv/installed
	@echo "Installing vLLM's CPU build into .venv-vllm (3 GB, about 4 min) ..."
	@python -m venv --clear .venv-vllm
	@.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --requirement requirements-vllm.txt
	@.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

engines: .venv-vllm/installed  ## serve a marked model with vLLM (CPU) and transformers serve, and compare what they answer
	@python -m pytest -m slow tests/integration/test_engines.py

soak: .venv/installed  ## serve under mixed traffic for MINUTES (default 60): no request may be lost, nothing may leak
	@python -m tests.soak.run --minutes $(MINUTES)

chaos: .venv/installed  ## kill one training 30 times at random; its model must be that of an unbroken run
	@python -m tests.chaos.run

suite: .venv/installed  ## every benchmark of params/bench.yaml on the models here, an eighth of the items, from EVALUATION_SETS
	@python -m benchmarks.suite . --data $(EVALUATION_SETS) --out .tailmark/suite

# What is done is kept, so this may be ended and started again. Another commit starts anew: name the one it began with as REV.
experiment: .venv/installed  ## the paper's experiment on ../shared/data (docs/results.md): hours on a CPU; SWEEPS, REV, JOBS, CONCURRENCY
	@export OMP_NUM_THREADS=$$(( $$(nproc) / ($(JOBS) * $(CONCURRENCY)) ? $$(nproc) / ($(JOBS) * $(CONCURRENCY)) : 1 )); \
	  for file in $(SWEEPS); do \
	    python -m flows.sweep $$file --profile bench --revision $(REV) --jobs $(JOBS) --concurrency $(CONCURRENCY) || code=$$?; done; \
	  python -m benchmarks.paper $(SWEEPS) --revision $(REV) --out .tailmark/experiment && \
	  python -m benchmarks.probes $(SWEEPS) --revision $(REV) --out .tailmark/experiment && exit $${code:-0}

lint: .venv/installed  ## style and layers
	@ruff check .
	@lint-imports

types: .venv/installed  ## strict type check
	@mypy

.venv/docs: requirements-docs.txt .venv/installed
	@echo "Installing what builds the documents ..."
	@pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement requirements-docs.txt > $@.log 2>&1 || { cat $@.log; exit 1; }
	@touch $@

docs: .venv/docs  ## the site of docs/ in build/docs; what a page gets wrong is an error
	@python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env --write-all --builder html docs build/docs

reference: .venv/installed  ## write docs/reference again, from the code
	@python -m infra.reference

check: lint types docs  ## lint, types, documents

mlflow: .venv/installed  ## open the runs and the registry at http://127.0.0.1:5000
	@mkdir -p .tailmark/mlflow
	@echo "MLflow: http://127.0.0.1:5000/#/experiments/1/runs, the registered model: http://127.0.0.1:5000/#/models/tailmark  (Ctrl-C ends it)"
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --host 127.0.0.1 --port 5000 --workers 1 \
	  --backend-store-uri $(STORE) --default-artifact-root file://$(CURDIR)/.tailmark/mlflow/artifacts

plots: .venv/installed  ## metrics and plots of this checkout beside those of REV (default: HEAD)
	@dvc metrics diff $(REV)
	@python infra/plots_page.py .tailmark/plots/page.html
	@dvc plots diff $(REV) --html-template .tailmark/plots/page.html --out .tailmark/plots

prefect: .venv/installed  ## open the flow runs at http://127.0.0.1:4200
	@mkdir -p .tailmark/prefect
	@echo "Prefect: http://127.0.0.1:4200/runs  (Ctrl-C ends it)"
	@PREFECT_HOME=$(CURDIR)/.tailmark/prefect PREFECT_SERVER_ANALYTICS_ENABLED=false PREFECT_SERVER_API_PORT=4200 \
	  prefect server start --host 127.0.0.1 --port 4200

secrets:  ## infra/.env with random secrets, a certificate and the file of accounts, for a server of your own (docs/deploy.md)
	@infra/secrets.sh

server: .venv/installed  ## the services of infra/compose.yaml on this machine, without containers (ARGS: --serve, --stores-only)
	@pip install --quiet --constraint constraints.txt --requirement requirements-server.txt
	@python -m infra.native $(ARGS)

deploy: .venv/installed  ## the deployments of prefect.yaml on the server at PREFECT_API_URL (POOL, SCHEDULE, CHECKOUT)
	@TAILMARK_POOL="$(or $(POOL),$(TAILMARK_POOL))" TAILMARK_SCHEDULE="$(or $(SCHEDULE),$(TAILMARK_SCHEDULE))" \
	  TAILMARK_CHECKOUT="$(or $(CHECKOUT),$(TAILMARK_CHECKOUT))" python -m infra.deploy

backup:  ## registry, databases, DVC remote and git history into a new folder in TO (docs/operations.md)
	@infra/backup.sh "$(TO)"

restore:  ## the backup FROM into empty databases and buckets
	@infra/restore.sh "$(FROM)"

infra-check: .venv/installed  ## compose file, Dockerfile, Kubernetes manifests, shell scripts and proxy, as far as no engine is needed
	@pip install --quiet --constraint constraints.txt --requirement requirements-infra.txt
	@python -m pytest tests/unit/test_infra.py

constraints:  ## resolve the exact versions again (needs uv)
	@uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate --quiet --output-file constraints.new
	@{ echo "# The versions the tests ran with. Made by 'make constraints'; ranges are in pyproject.toml."; echo "torch==2.13.0"; \
	   grep -vE '^(torch|triton|nvidia-|cuda-)' constraints.new; } > constraints.txt
	@rm constraints.new

clean:  ## remove caches of tools; data, models and runs stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build src/*.egg-info
	@find src tests flows tasks benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
