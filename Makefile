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
JOBS ?= 1
REV ?= HEAD

.DEFAULT_GOAL := help
.PHONY: help install demo test slow chaos lint types check mlflow plots prefect constraints clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Installed again when the versions change, not when a source file does: the package is installed in place.
.venv/installed: pyproject.toml constraints.txt requirements-corpus.txt
	@infra/install.sh

install: .venv/installed  ## make .venv

demo: .venv/installed  ## run the whole pipeline on the CPU: a marked model, its baseline, the lifts
	@python -m flows.pipeline --jobs $(JOBS)

test: .venv/installed  ## all tests
	@python -m pytest

slow: .venv/installed  ## the tests that take minutes: twenty kills, a Ray cluster, a served model
	@pip install --quiet --constraint constraints.txt --requirement requirements-ray.txt --requirement requirements-lm-eval.txt --requirement requirements-s3.txt 'moto[server]'
	@python -m pytest -m slow

chaos: .venv/installed  ## kill one training 30 times at random; its model must be that of an unbroken run
	@python -m tests.chaos.run

lint: .venv/installed  ## style and layers
	@ruff check .
	@lint-imports

types: .venv/installed  ## strict type check
	@mypy

check: lint types  ## lint and types

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

constraints:  ## resolve the exact versions again (needs uv)
	@uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate --quiet --output-file constraints.new
	@{ echo "# The versions the tests ran with. Made by 'make constraints'; ranges are in pyproject.toml."; echo "torch==2.13.0"; \
	   grep -vE '^(torch|triton|nvidia-|cuda-)' constraints.new; } > constraints.txt
	@rm constraints.new

clean:  ## remove caches of tools; data, models and runs stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build src/*.egg-info
	@find src tests flows tasks benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
