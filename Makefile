# `make` lists the tasks. Two of them are all that a fresh machine with Python 3.11+ needs: run and test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests in parallel processes; each that needs a stack starts its own.
TEST_JOBS ?= 2
PYTEST_ARGS ?=
# What prints CASE lines: the slow suites, and those of `make test`.
CASE_TESTS := tests/faults tests/system/test_bad_writes.py tests/system/test_connections.py \
  tests/system/test_query_limits.py tests/services/test_compaction_beside.py tests/services/test_query_ends.py

.DEFAULT_GOAL := help
.PHONY: help install run test check cases bench faults format clean

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Tidegate needs Python 3.11 or newer; PYTHON=/path/to/python3 make … names another one" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "no venv module: on Debian, apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/python -m services.compile
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

install: $(VENV)/.installed ## make the virtual environment and compile the hot loops

run: $(VENV)/.installed ## start all five services; INGEST=3 make run starts three ingests
	@TIDEGATE_LOG_FORMAT=$${TIDEGATE_LOG_FORMAT:-console} exec $(BIN)/python -m services

test: $(VENV)/.installed-test ## run every test, real servers and clients included
	@sh tests/install-tools.sh
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadgroup $(PYTEST_ARGS)

check: $(VENV)/.installed-test ## ruff, mypy --strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

cases: $(VENV)/.installed-test ## run the case tables alone
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadgroup -k "cases or examples" $(PYTEST_ARGS)

bench: $(VENV)/.installed-test ## compare with InfluxDB 1.6.7 and VictoriaMetrics on this machine (BENCH_ARGS=--quick QUERY_BENCH_ARGS=--quick VOLUMES_ARGS=million)
	@sh tests/install-tools.sh bench
	$(BIN)/python -m tests.bench $(BENCH_ARGS)
	$(BIN)/python -m tests.bench.queries $(QUERY_BENCH_ARGS)
	$(if $(VOLUMES_ARGS),$(BIN)/python -m tests.bench.volumes $(VOLUMES_ARGS))

faults: $(VENV)/.installed-test ## the slow fault suites: kills, full disks, cut connections; all cases listed at the end
	@sh tests/install-tools.sh
	$(BIN)/python -m pytest -v -s $(CASE_TESTS) $(PYTEST_ARGS)

format: $(VENV)/.installed-test ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the virtual environment and what was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
