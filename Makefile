# Every target installs what it needs into .venv. Start with `make demo`.

PYTHON ?= python3
PORT ?= 8000
PHOTOS ?=
DEMO_HOME ?= $(CURDIR)/.demo

BIN := .venv/bin
SOURCES := syncer server shared tests bench scripts

.PHONY: demo test check audit format bench requirements clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo                    show a gallery of sample photos on http://127.0.0.1:8000'
	@echo 'make demo PHOTOS=~/Pictures  show your own photos; PORT=8001 changes the port'
	@echo 'make test                    run the tests'
	@echo 'make check                   check formatting, lint, types, import rules and security'
	@echo 'make audit                   look for known vulnerabilities of the pinned packages (needs the internet)'
	@echo 'make format                  format the code and apply lint fixes'
	@echo 'make bench                   run short benchmarks; FULL=1 runs all, which takes hours'
	@echo 'make requirements            pin the dependencies again'
	@echo 'make clean                   remove .venv, .demo and the caches'

demo: $(BIN)/.demo
	@BIN='$(CURDIR)/$(BIN)' PORT='$(PORT)' DEMO_HOME='$(DEMO_HOME)' PHOTOS='$(PHOTOS)' sh scripts/demo.sh

test: $(BIN)/.dev
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

check: $(BIN)/.dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml syncer server shared
	$(BIN)/python scripts/check_migrations.py

# Needs the internet: known vulnerabilities of the pinned packages.
audit: $(BIN)/uv
	@# --strict: without it, packages whose advisories cannot be read count as free of them.
	$(BIN)/uv tool run pip-audit --strict --disable-pip --require-hashes -r requirements/dev.txt \
		|| { echo 'make audit: vulnerabilities were found, or their source could not be read; see the line above' >&2; exit 1; }

format: $(BIN)/.dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# The short mode takes less than five minutes; FULL=1 makes the figures of docs/performance.md.
bench: $(BIN)/.dev
ifdef FULL
	$(BIN)/python -m bench.replicate
	$(BIN)/python -m bench.local_models
	$(BIN)/python -m bench.sync
	$(BIN)/python -m bench.local_sync
	$(BIN)/python -m bench.search
	$(BIN)/python -m bench.search --rows 100000
	$(BIN)/python -m bench.million --plots docs/images
	$(BIN)/python -m bench.scaling
	$(BIN)/python -m bench.relevance
	$(BIN)/python -m bench.ocr
else
	$(BIN)/python -m bench.sync --short
	$(BIN)/python -m bench.search
	$(BIN)/python -m bench.million --rows 10000 --seconds 1
endif

# Pin every package by hash, for all supported Python versions and platforms, without index addresses.
requirements: $(BIN)/uv
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header --all-extras --group dev \
		-o requirements/dev.txt
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header -c requirements/dev.txt \
		--extra syncer --extra server --extra embedded --extra offline --extra ocr --extra places --extra demo -o requirements/demo.txt
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header -c requirements/dev.txt \
		--extra syncer --extra clip --extra ocr --extra places -o requirements/syncer.txt
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header -c requirements/dev.txt \
		--extra server --extra clip -o requirements/server.txt

clean:
	rm -rf .venv .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/uv:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"$(PYTHON) is Python {v[0]}.{v[1]}, but 3.11 to 3.13 is required: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

$(BIN)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --no-deps --require-hashes -r requirements/demo.txt
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

$(BIN)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/uv
	@# Compile bytecode once: the tests start hundreds of processes, and PYTHONDONTWRITEBYTECODE may be set.
	$(BIN)/uv pip install --quiet --compile-bytecode --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@
