# The developer's entry points. `make demo` and `make test` work as the first command on a fresh clone.
# A Python that really runs: pyenv's shims exist for versions that are not selected, so each is tried.
PYTHON ?= $(shell for p in $$(pyenv prefix 3.13.0 2>/dev/null)/bin/python python3.13 python3.12 python3.14 python3 python3.11; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$p"; break; }; done)
VENV ?= .venv
# The oldest Python that is supported.
OLDEST ?= $(shell for p in $$(pyenv prefix 3.11.7 2>/dev/null)/bin/python python3.11; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && { command -v "$$p"; break; }; done)
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*/pyproject.toml)
STAMP := $(VENV)/.installed
# Test processes side by side: the tests wait for servers more than they compute.
JOBS ?= 3
DIST ?= dist

.PHONY: install demo test test-all test-oldest lint format docs dist lock clean

install: $(STAMP)

$(STAMP): pyproject.toml requirements.lock $(PLUGINS)
	@test -n "$(PYTHON)" || { echo "taskq-exporter needs Python 3.11 or newer with venv (Debian: apt install python3-venv); set PYTHON=/path/to/python" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . $(addprefix -e ,$(patsubst %/pyproject.toml,./%,$(PLUGINS)))
	@touch $@

demo: install
	$(BIN)/taskq-exporter demo $(ARGS)

test: install
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not full" $(ARGS)

test-all: install test-oldest
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

# Core and adapters on the oldest Python, without what needs a newer one.
test-oldest:
ifeq ($(OLDEST),)
	@echo "no Python 3.11 with venv here: its tests are left out"
else
	$(MAKE) test VENV=.venv-oldest PYTHON="$(OLDEST)" ARGS="$(ARGS) tests/unit tests/server plugins"
endif

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python docs/generate.py

dist: install
	rm -rf $(DIST)
	for p in . $(dir $(PLUGINS)); do $(BIN)/python -m build --no-isolation --outdir $(DIST) $$p || exit 1; done

# Versions with hashes and without index addresses; needs the registry.
lock: install
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		pyproject.toml $(PLUGINS) --extra testing --group dev --upgrade \
		--no-emit-package taskq-exporter $(foreach p,$(PLUGINS),--no-emit-package taskq-exporter-$(subst _,-,$(notdir $(patsubst %/,%,$(dir $(p)))))) \
		-o requirements.lock

clean:
	rm -rf $(VENV) dist
