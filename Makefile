# Crossfade: the commands that always hold. `make help` lists them.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
JOBS ?= auto
COVER ?= 90
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run test coverage check bench fmt screenshots lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Crossfade needs Python 3.11 or newer; none was found. Install it, or run: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Making a virtual environment in $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runs: $(VENV)/.made requirements.lock pyproject.toml
	@echo "Installing what Crossfade needs to run (about a minute, once) ..."
	@$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.tests: $(VENV)/.runs requirements-dev.lock
	@echo "Installing what the tests need ..."
	@$(BIN)/pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

setup: $(VENV)/.tests ## set up .venv for development

run: $(VENV)/.runs ## run everything on this machine (options for `crossfade up` in ARGS)
	@exec $(BIN)/crossfade up $(ARGS)

test: $(VENV)/.tests ## run the tests, in parallel (ARGS for pytest)
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup $(ARGS)

coverage: $(VENV)/.tests ## run the tests, and fail where they run less than COVER per cent of the code (ARGS for pytest)
	@$(BIN)/coverage erase
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup --cov --cov-report=term --cov-fail-under=$(COVER) $(ARGS)

check: $(VENV)/.tests ## everything that must hold before a commit
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

fmt: $(VENV)/.tests ## format, and mend what can be mended
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@$(BIN)/python docs/make_cli_reference.py > docs/cli.md.new && mv docs/cli.md.new docs/cli.md

bench: $(VENV)/.tests ## print the tables of bench/ (about 40 minutes; nothing else should run)
	@for each in bench/realtime_*.py bench/flags.py bench/flag_changes.py bench/spool_write.py bench/history_year.py bench/query_service.py bench/services_killed.py bench/alerts.py bench/legacy_fanout.py bench/gateway.py bench/push_versus_polling.py bench/loss.py bench/collector_idle.py bench/collector_outage.py bench/ssh_hundred.py "bench/handover.py storm --minutes 2" "bench/handover.py thousand" bench/dashboard.py; do \
	  echo "== $$each"; PYTHONPATH=. $(BIN)/python $$each $(ARGS) || exit 1; done

screenshots: $(VENV)/.tests ## take the pictures of the dashboard (needs Chromium and a running `crossfade up`)
	@PYTHONPATH=. $(BIN)/python docs/make_screenshots.py http://127.0.0.1:8003 docs/images

lock: ## resolve the dependencies anew (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate --no-header --no-emit-index-url --group build -o requirements.lock pyproject.toml
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate --no-header --no-emit-index-url -c requirements.lock --group build --group dev -o requirements-dev.lock pyproject.toml

clean: ## remove .venv and caches; your data in .crossfade stays
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage* htmlcov
