# make demo   the whole system on this machine, with crashes and duplicates
# make test   everything that must hold: format, lint, types, import contracts, tests
# make test-all   the same, and the tests that take long: thousands of simulated histories more
# All do their own set-up in .venv; only Python 3.11 or newer is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SEEDS ?= 2000
FIRST ?= 0
FUZZ_SEEDS ?= 200
WORKERS ?= $(shell echo $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 )))
# The oldest Python there is here, as Debian 12 has it, with the oldest dependencies.
LOWEST_PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11) $(PYTHON))
LOWEST := .venv-lowest
LOWEST_TESTS := tests/test_dependencies.py tests/docs/test_pages.py::test_python_of_a_page_runs_as_one_program tests/unit/services/test_identity.py \
  tests/integration/entities/test_chain.py tests/integration/execution/test_durable_models.py \
  tests/integration/execution/test_durable_events.py tests/integration/execution/test_durable_map.py tests/integration/locks/test_lock.py tests/integration/observe/test_telemetry.py \
  tests/integration/services/test_identity_http.py tests/integration/services/test_smtp.py tests/integration/tasks/test_runs.py \
  tests/integration/worker/test_worker.py \
  tests/emulator/test_firestore_client.py tests/emulator/test_logging_server.py tests/emulator/test_mail.py tests/emulator/test_oidc.py \
  tests/emulator/test_plugin.py tests/emulator/test_tasks_delivery.py tests/emulator/test_tasks_http.py
TYPED := $(shell find gcp_oncetask emulator/gcp_emulator examples functions/main.py tests/typing README.md emulator/README.md docs -type f 2>/dev/null | grep -v __pycache__)
.DEFAULT_GOAL := help

.PHONY: help demo test test-all test-lowest check bench scenarios simulate mutants mutants-generated fuzz wheels release-check functions firebase browser node-clients screenshots pictures clean docs docs-serve debian

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml emulator/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }
	@echo "Setting up $(VENV) (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the library, the local Google Cloud and the tools ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -e ./emulator -e '.[emulator,dev]'
	@touch $@

# pyright has no cache of its own; nothing that it looks at has changed since this file was written.
build/typing/pyright: $(STAMP) pyproject.toml $(TYPED)
	@echo "pyright";   $(BIN)/python -m tests.support.readme && $(BIN)/basedpyright && touch $@

demo: $(STAMP) ## 500 orders with duplicates, lost answers and killed workers; CONSOLE=1 leaves a console open
	@$(BIN)/python -m examples.orders.demo $(if $(CONSOLE),--console)

check: $(STAMP) build/typing/pyright ## format, lint, types (mypy, pyright; README and examples too), import contracts
	@echo "format";    $(BIN)/ruff format --quiet --check .
	@echo "lint";      $(BIN)/ruff check --quiet .
	@echo "types";     $(BIN)/python -m tests.support.readme && $(BIN)/mypy
	@echo "contracts"; PYTHONPATH=emulator $(BIN)/lint-imports --no-cache

# Many tests wait for processes that they have killed: half as many workers more than cores keep the cores busy.
test: check firebase browser ## check, then every test that is not slow
	@$(BIN)/python -m pytest -n $(WORKERS)

test-all: check firebase browser debian node-clients test-lowest ## check, then every test, with thousands more histories: make test-all HISTORIES=20000
	@$(if $(HISTORIES),SIMULATED_HISTORIES=$(HISTORIES)) FUZZ_SEEDS=40 RECURRENCE_EXAMPLES=3 $(BIN)/python -m pytest -n auto -m ''

$(LOWEST)/.installed: pyproject.toml emulator/pyproject.toml tests/support/lowest.py
	@echo "Installing the declared minimum of each dependency into $(LOWEST), for $$($(LOWEST_PYTHON) --version) ..."
	@$(LOWEST_PYTHON) tests/support/lowest.py $(LOWEST)
	@touch $@

node-clients: $(STAMP) ## Google's Node and Web clients of Firestore, for the tests that run their programs
	@$(BIN)/python -m tests.support.node_clients

test-lowest: $(LOWEST)/.installed ## a short suite on the oldest Python and the declared minimum of each dependency
	@$(LOWEST)/bin/python -m pytest -q -n auto $(LOWEST_TESTS)

scenarios: $(STAMP) ## the expectations of each ancestor's users: row, test, deviation
	@$(BIN)/python -m tests.scenarios

bench: $(STAMP) ## ratios against the documented way by hand
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.firestore
	@$(BIN)/python -m benchmarks.workers
	@$(BIN)/python -m benchmarks.growth
	@$(BIN)/python -m benchmarks.durable
	@$(BIN)/python -m benchmarks.starts
	@$(BIN)/python -m benchmarks.ways
	@$(BIN)/python -m benchmarks.instructions
	@$(BIN)/python -m benchmarks.callgrind

simulate: $(STAMP) ## the promise in as many simulated histories of each kind as wanted, resumed: make simulate SEEDS=20000 FIRST=0
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST) --state build/simulation-$(FIRST).json

mutants: $(STAMP) ## the library with one mistake at a time: each must be caught
	@$(BIN)/python -m tests.simulation.mutants

mutants-generated: $(STAMP) ## small changes of rules/ and store/ one at a time, each tried by the tests that run it: make mutants-generated SAMPLE=500
	@$(BIN)/python -m tests.mutation --path gcp_oncetask/rules $(if $(SAMPLE),--sample $(SAMPLE))
	@$(BIN)/python -m tests.mutation --path gcp_oncetask/store $(if $(SAMPLE),--sample $(SAMPLE))

fuzz: $(STAMP) ## the embedded Firestore against Google's emulator, recurrences against slow references: make fuzz FUZZ_SEEDS=1000
	@FUZZ_SEEDS=$(FUZZ_SEEDS) $(BIN)/python -m pytest -n auto tests/emulator/test_firestore_fuzz.py
	@RECURRENCE_EXAMPLES=20 $(BIN)/python -m pytest -n auto --timeout 3600 tests/unit/tasks/recurrence/test_property.py tests/unit/tasks/recurrence/test_limits.py

wheels: $(STAMP) ## both distributions into dist/
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . && $(BIN)/python -m build --wheel --no-isolation --outdir dist emulator

release-check: $(STAMP) ## wheels and source distributions into dist/, checked as an index does, installed into a fresh environment
	@$(BIN)/python -m tests.support.release

functions: $(STAMP) ## the library's wheel into functions/, from where firebase deploy takes it
	@rm -rf functions/wheels
	@$(BIN)/python -m build --wheel --no-isolation --outdir functions/wheels . >/dev/null && ls functions/wheels/*

firebase: $(STAMP) ## firebase-tools into .cache/ (where npm and Java are), for the tests that run the functions under it
	@$(BIN)/python -m tests.support.firebase_tools

browser: $(STAMP) ## Chromium, where apt-get can install it, for the tests of the console
	@$(BIN)/python -m tests.support.browser

debian: $(STAMP) ## debootstrap, where apt-get can install it, for the walks of test-all through the pages
	@$(BIN)/python -m tests.support.container

screenshots: $(STAMP) browser ## docs/screenshots/ anew, of the console in Chromium
	@SCREENSHOTS=docs/screenshots $(BIN)/python -m pytest -q tests/processes/console

pictures: $(STAMP) browser ## docs/pictures/ anew where a text there has changed, by mermaid in Chromium (where npm is)
	@$(BIN)/python -m tests.support.pictures

docs: $(STAMP) ## the site into build/site/; a warning is an error
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs build/site && echo "build/site/index.html"

docs-serve: docs ## the site at http://127.0.0.1:8000, until Ctrl-C
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site 8000

clean: ## forget the virtual environment and the caches
	rm -rf $(VENV) $(LOWEST) build dist functions/wheels .pytest_cache .mypy_cache .ruff_cache
