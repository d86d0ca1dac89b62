# Two commands matter: `make demo` and `make test`. Both set up what they need.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
WHEELS ?= $(wildcard ../shared/wheels)
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(if $(wildcard $(WHEELS)/torch-*+cpu-*.whl),cpu,cuda)
PYTEST := $(BIN)/python -m pytest

# Without compiled code each of the hundreds of processes that tests start would compile Modelyard again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test cluster e2e-smoke e2e e2e-down nightly coverage test-unit check chart images format lock clean

help: ## Show this list
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.ready ## Install the locked dependencies and Modelyard itself into .venv

$(VENV)/.ready: requirements/lock.txt requirements/torch-$(TORCH).txt requirements/bootstrap.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Modelyard needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": set PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes $(if $(WHEELS),--find-links $(WHEELS)) \
		requirements/bootstrap.txt requirements/lock.txt requirements/torch-$(TORCH).txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## Three versions of a model, from data to live traffic, with a bad one rolled back (state in .modelyard/demo)
	@$(BIN)/python examples/digits/demo.py

# Three workers more than two cores, since tests of processes often wait; each file is one worker's, with its servers.
test: setup ## Every test that this machine can run; the last one is the demo, alone
	-@$(BIN)/python -m tests.cluster.build
	@$(PYTEST) -n 5 --dist loadfile --no-loadscope-reorder --ignore tests/e2e/test_demo.py -q
	@$(PYTEST) tests/e2e/test_demo.py -q

cluster: setup ## Build the Kubernetes API server that tests use, once, from Go modules (about six minutes; needs Go)
	@$(BIN)/python -m tests.cluster.build

# Where there can be no node it says so and is done: a machine without root is no failure.
e2e-smoke: setup ## From helm install to live traffic, canary and rollback on a real Kubernetes node (needs root; docs/e2e.md)
	@why="$$([ -n "$$MODELYARD_E2E_KUBECONFIG" ] || $(BIN)/python -m tests.cluster.machine check 2>&1)"; case $$? in \
	0) MODELYARD_E2E=1 $(PYTEST) -x -q -s tests/e2e/test_cluster_smoke.py tests/e2e/test_cluster_end.py ;; \
	3) echo "SKIPPED: make e2e-smoke cannot run here: $$why" >&2 ;; \
	*) echo "$$why" >&2; exit 1 ;; esac

e2e: setup ## The same, with evictions, killed leaders, a training, and a registry, an API server and a Prometheus that go away, under the same traffic
	@MODELYARD_E2E=1 $(PYTEST) -x -q -s tests/e2e/test_cluster_smoke.py tests/e2e/test_cluster_leader.py tests/e2e/test_cluster_metrics.py \
		tests/e2e/test_cluster_training.py tests/e2e/test_cluster_faults.py tests/e2e/test_cluster_end.py

e2e-down: ## End the node that MODELYARD_E2E_KEEP=1 left up, and all that is left of it
	@$(BIN)/python -m tests.cluster.machine down

nightly: setup cluster ## What is too long for every day: 10,000 examples of each state machine, every crash point, every strategy (hours)
	@MODELYARD_EVERY_EVENT=1 $(PYTEST) -q --timeout 3600 tests/integration/runs -k killed_at_every_event
	@HYPOTHESIS_PROFILE=nightly $(PYTEST) -n 2 -q --timeout 86400 tests/unit/rollout/test_state_machine.py \
		tests/unit/modelyard_operator/test_state_machine.py tests/unit/modelyard_operator/test_crash_points.py \
		tests/integration/operator/test_process.py \
		tests/integration/training/test_sharding_nightly.py tests/integration/training/test_resume.py tests/integration/jobs/test_train_on_kubernetes.py \
		tests/integration/pipelines/test_other_ways.py tests/e2e/test_language_model.py

coverage: setup ## What the tests that need no process reach, line by line (minutes: the state machines are traced too)
	@$(PYTEST) -n 2 -m "not process" -q --cov --cov-report=term:skip-covered

test-unit: setup ## The tests that need no process, in seconds
	@$(PYTEST) -n 2 tests/unit -m "not process" -q

check: setup ## Lint, types, import contracts, formatting, spelling, the chart
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell
	@$(MAKE) --no-print-directory chart

chart: setup $(VENV)/lint/.ready ## The chart alone: golden renders, Kubernetes' schemas 1.30-1.36, helm lint, checkov
	@$(PYTEST) tests/unit/chart -q
	@LOG_LEVEL=ERROR $(VENV)/lint/bin/checkov --config-file charts/checkov.yaml

# checkov pins a hundred packages of its own: it lives beside the environment, not in it.
$(VENV)/lint/.ready: requirements/lint.txt | setup
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/lint
	@$(BIN)/uv pip sync --quiet --python $(VENV)/lint/bin/python --require-hashes requirements/lint.txt
	@touch $@

images: ## Build the images with docker, podman or buildah: operator, serving, training, pipelines (ARGS="serving --torch cpu")
	@$(PYTHON) images/build.py $(if $(WHEELS),--wheels $(WHEELS)) $(ARGS)

format: setup ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: setup ## Resolve requirements.in anew into the hashed lock
	@PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python requirements/lock.py $(WHEELS)
	@$(BIN)/python requirements/images.py
	@echo checkov | $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --quiet --output-file requirements/lint.txt -

clean: ## Remove what was built here: the environment, caches, the demo's state
	rm -rf $(VENV) .modelyard .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* htmlcov
