# Two commands to know: `make demo` and `make test`. Both install what they need into .venv.

PYTHON ?= python3
PORT ?= 8000
PHOTOS ?=
DEMO_HOME ?= $(CURDIR)/.demo

BIN := .venv/bin
SOURCES := syncer server shared tests bench

.PHONY: demo test check format bench requirements clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo                    a gallery of sample photos on http://127.0.0.1:8000'
	@echo 'make demo PHOTOS=~/Pictures  the same with your photos; PORT= takes another port'
	@echo 'make test                    run the tests'
	@echo 'make check                   formatting, lint, types, layering'
	@echo 'make bench                   run the benchmarks'

demo: $(BIN)/.demo
	@BIN='$(CURDIR)/$(BIN)' PORT='$(PORT)' DEMO_HOME='$(DEMO_HOME)' PHOTOS='$(PHOTOS)' sh docs/demo.sh

test: $(BIN)/.dev
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

check: $(BIN)/.dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(BIN)/.dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: $(BIN)/.dev
	$(BIN)/python -m bench.replicate
	$(BIN)/python -m bench.local_models
	$(BIN)/python -m bench.sync
	$(BIN)/python -m bench.server
	$(BIN)/python -m bench.relevance

# What is pinned: every package with its hashes, for all supported Pythons and platforms, without addresses.
requirements: $(BIN)/uv
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header --all-extras --group dev \
		-o requirements/dev.txt
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header -c requirements/dev.txt \
		--extra syncer --extra server --extra embedded --extra offline --extra demo -o requirements/demo.txt
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header -c requirements/dev.txt \
		--extra syncer --extra clip -o requirements/syncer.txt
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header -c requirements/dev.txt \
		--extra server --extra clip -o requirements/server.txt

clean:
	rm -rf .venv .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/uv:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, and $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

$(BIN)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --require-hashes -r requirements/demo.txt
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

$(BIN)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/uv
	@# Compiled once: the tests start hundreds of processes, and some machines keep Python from writing bytecode itself.
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@
