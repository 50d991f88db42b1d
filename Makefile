# The one place for commands: continuous integration and the pre-commit hooks call these targets.
#
#   make run         environment, then the analysis of the bundled sample
#   make test        lint, types and all tests
#
# PYTHON= chooses the interpreter (3.11 to 3.13), JOBS= the number of test processes, ARGS= what is added to `make run`.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := run
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
ARGS ?=
PACKAGES := analysis.py processors corrections models report samples tests benchmarks
REQUIREMENTS := setup.cfg constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

.PHONY: run test lint types unit slow bench format constraints clean

run: $(VENV)/.run
	$(BIN)/python analysis.py --executor futures $(ARGS)

test: lint types unit slow

lint: $(VENV)/.test
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.test
	$(BIN)/mypy

unit: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS)

# The wheel is tried in a process of its own, which has run nothing from this checkout.
slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow --ignore=tests/test_wheel.py
	$(BIN)/python -m pytest -m slow tests/test_wheel.py

bench: $(VENV)/.test
	for file in benchmarks/*.py; do $(BIN)/python $$file; done

format: $(VENV)/.test
	$(BIN)/ruff format $(PACKAGES)
	$(BIN)/ruff check --fix $(PACKAGES)

# The newest versions that setup.cfg allows and that hold for Python 3.11 to 3.13 at once.
COMPILE := uv pip compile --universal --python-version 3.11 --all-extras --upgrade --no-annotate --no-emit-index-url \
  --no-emit-find-links --output-file constraints.txt setup.cfg
constraints: $(VENV)/.run
	$(PIP) install --quiet uv
	$(BIN)/$(COMPILE) --quiet --custom-compile-command "make constraints, that is: $(COMPILE)"

clean:
	rm -rf build output *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

# What `make run` needs, kernels compiled by a first run; a stamp in the environment tells that it is up to date.
$(VENV)/.run: $(BIN)/python $(REQUIREMENTS)
	$(PIP) install --constraint constraints.txt --editable .
	folder=$$(mktemp -d); $(BIN)/python analysis.py -e iterative --maxchunks 1 --replicas 2 -o $$folder/first > $$folder/log \
	  2>&1 || { cat $$folder/log; exit 1; }; rm -rf $$folder
	touch $@

# The extras, on top of it.
$(VENV)/.test: $(VENV)/.run
	$(PIP) install --constraint constraints.txt --editable ".[dask,parsl,generate,train,test]"
	touch $@

# PYTHON= wins; otherwise the first of these that runs and is in range.
CANDIDATES := $(or $(PYTHON),python3 python python3.13 python3.12 python3.11)
FOUND = $(firstword $(foreach python,$(CANDIDATES),$(shell $(python) -c '$(IN_RANGE)' 2>/dev/null && echo $(python))))
$(BIN)/python:
	$(if $(FOUND),,$(error Jetbalance needs Python 3.11 to 3.13, found none as $(CANDIDATES); give one with PYTHON=/path/to/python3.13))
	$(FOUND) -m venv --clear $(VENV)

# An explicit PYTHON= that is not the one of the environment makes it anew.
ifdef PYTHON
ifneq ($(shell $(PYTHON) -c 'import sys; print(sys.version_info[:2])' 2>/dev/null),$(shell $(BIN)/python -c 'import sys; print(sys.version_info[:2])' 2>/dev/null))
.PHONY: $(BIN)/python
endif
endif
