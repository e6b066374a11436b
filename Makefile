# Every target does its own setup: a new machine needs only Python 3.10+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# An empty value lets Python write .pyc files; otherwise the hundreds of interpreters that the tests start would each
# compile all modules again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-long explore lint check conformance chaos scale fuzz mutants bench bench-scale clean

demo: $(READY)
	$(BIN)/finx-sync demo

test: $(READY)
	$(BIN)/python -m pytest -n 4 --dist worksteal

test-long: $(READY)
	$(BIN)/python -m pytest -m long -n 2 --dist worksteal

explore: $(READY)
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -m "hypothesis and not long"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict -p finx_sync
	$(BIN)/lint-imports

check: lint test

conformance: $(READY)
	$(BIN)/python -m tests.conformance.run

chaos: $(READY)
	$(BIN)/python -m tests.chaos.run
	$(BIN)/python -m tests.chaos.venues
	$(BIN)/python -m tests.chaos.recorded

scale: $(READY)
	$(BIN)/python -m tests.scale.run

fuzz: $(READY)
	$(BIN)/python -m tests.fuzzing.run

mutants: $(READY)
	$(BIN)/python -m tests.mutation.run

bench: $(READY)
	$(BIN)/python -m pip install --quiet -e ".[bench]"
	$(BIN)/python -m pip install --quiet --no-deps bitmex-ws==1.5.0
ifdef BASE
	$(BIN)/python -m benchmarks.revisions $(BASE)
else
	$(BIN)/python -m benchmarks.run
endif

bench-scale: $(READY)
	$(BIN)/python -m pip install --quiet -e ".[bench]"
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.gateway

$(READY): setup.py pyproject.toml finx_sync/transport/_cutting.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info finx_sync/transport/*.so
