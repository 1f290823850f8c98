# The two commands a newcomer needs are `make demo` and `make test`; each installs what it needs into .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo services test test-quick lint types imports check bench format schema docs lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Install the locked packages, with all extras, into .venv

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED) ## Generate a job marketplace, release it twice, read it back (ARGS="--members 5000" for a larger one)
	$(BIN)/star-platform demo $(ARGS)

services: $(INSTALLED) ## Start Postgres, Redis and Feast's feature server here, without Docker; Ctrl-C stops them (FOLDER=.star)
	@$(BIN)/python -m services up --folder $(or $(FOLDER),.star)

test: $(INSTALLED) ## Run every test, with a real Postgres and a real Redis
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

test-quick: $(INSTALLED) ## Run the tests that take seconds
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow" $(ARGS)

lint: $(INSTALLED) ## Check style and the import order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(INSTALLED) ## Check types
	$(BIN)/mypy

check: lint types test ## Everything that CI checks

format: $(INSTALLED) ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Run every benchmark beside its alternative (ARGS=--quick for a minute)
	@for name in compile sampling training ltgnn inference id_tables text nearline publish read; do $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; done

schema: $(INSTALLED) ## Write schema/*.json from the models
	$(BIN)/python -m star_platform.signals.schema
	$(BIN)/python -m star_platform.project.schema

docs: $(INSTALLED) ## Write the pages of docs/ that repeat the code
	$(BIN)/python docs/generate.py

lock: ## Resolve the dependencies anew into requirements.lock
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/lock/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)/lock/bin/python -m pip install --quiet '.[all]' --group dev hatchling editables
	$(VENV)/lock/bin/python -m pip freeze --exclude star-platform | sed -e 's/^torch==\([0-9.]*\).*/torch==\1/' > requirements.lock
	rm -rf $(VENV)/lock

clean: ## Remove the demo's state (the venv stays)
	rm -rf .star
