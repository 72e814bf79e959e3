# `make test` on a fresh checkout: makes its own virtual environment, installs, lints and runs the default test suite.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help venv lint format test test-all clean

help:
	@echo "make test      install into $(VENV), lint, run the default suite (offline, CPU, under five minutes)"
	@echo "make test-all  the same with the slow tests"
	@echo "make lint      check style and formatting only"
	@echo "make format    apply formatting"
	@echo "make clean     remove $(VENV) and caches"

venv: $(VENV)/installed

# Rebuilt whenever the project's requirements change.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/python -m pytest -m "not slow and not gpu and not network"

test-all: lint
	$(BIN)/python -m pytest -m "not gpu and not network"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
