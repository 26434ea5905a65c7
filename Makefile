# Every target makes its own virtual environment and installs what it needs; the second time it starts at once.
VENV ?= .venv
WORKERS ?= 2
HOST ?= 127.0.0.1
PORT ?= 8000
BENCH ?=

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo crowd demo-shop demo-worker serve test check format bench docs docs-serve clean
.DELETE_ON_ERROR:

BIN := $(VENV)/bin
comma := ,

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.with-examples ## load real data through a session, serve it, walk through the service, check every answer
	@$(BIN)/python -m examples.atlas.demo

serve: $(VENV)/.with-examples ## the same service, kept running (HOST, PORT, DATABASE_URL)
	@$(BIN)/python -m examples.atlas.serve --host $(HOST) --port $(PORT)

demo-shop: $(VENV)/.with-test+examples ## kill a service in mid-commit over two databases, again and again; check both (ARGS)
	@$(BIN)/python -m examples.shop.demo $(ARGS)

demo-worker: $(VENV)/.with-test+examples ## kill workers in the middle of their jobs; check that each was done once (ARGS)
	@$(BIN)/python -m examples.worker.demo $(ARGS)

crowd: $(VENV)/.with-examples ## two hundred clients at a time at the service; what must be true afterwards (ARGS="--clients 200")
	@$(BIN)/python -m examples.atlas.crowd $(ARGS)

test: $(VENV)/.with-test+examples ## all tests, on SQLite and on a private PostgreSQL (WORKERS, ARGS)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: $(VENV)/.with-check+test+examples ## format, lint, layers, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.with-check+test+examples ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.with-bench+test ## compare with the bare driver and other libraries (BENCH="--rounds 5 --only get")
	@$(BIN)/python -m benchmarks $(BENCH)

docs: $(VENV)/.with-docs ## build the documentation into site/
	$(BIN)/mkdocs build --strict

docs-serve: $(VENV)/.with-docs ## the documentation with live reload
	$(BIN)/mkdocs serve

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) build dist site .coverage htmlcov .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# .with-a+b means: the package with the extras a and b is installed.
$(VENV)/.with-%: pyproject.toml | $(BIN)/python
	@echo "installing: $(subst +, ,$*)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(subst +,$(comma),$*)]"
	@touch $@

$(BIN)/python:
	@set -e; for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "creating $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); \
		fi; \
	done; echo "Python 3.11 or newer is needed (PYTHON=/path/to/python3 make ...)" >&2; exit 1
