# `make test` on a fresh checkout: makes its own virtual environment, installs, lints and runs the default test suite.
# `make demo`: the same environment with what the demo needs, and the demo.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
DOCS_VENV ?= .venv-docs
BIN := $(VENV)/bin
# One thread a process: tests' models are tiny, and processes would take each other's cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help venv lint format test test-all docs demo bench gpu clean

help:
	@echo "make test      install into $(VENV), lint, check types, run the default suite (offline, CPU, 4 to 10 minutes on two cores)"
	@echo "make test-all  the same with the slow tests"
	@echo "make docs      install into $(DOCS_VENV), build the pages into site/; a broken link is an error"
	@echo "make demo      install into $(VENV), run the whole method on a made-up kitchen into demo_run/ (5 to 15 minutes)"
	@echo "make bench     run the short benchmarks, results into bench_results/ (about three minutes)"
	@echo "make gpu       run all that needs a GPU, results and a table into bench_results/ (under eight minutes)"
	@echo "make lint      check style, formatting and types only"
	@echo "make format    apply formatting"
	@echo "make clean     remove $(VENV), $(DOCS_VENV), site, caches and demo_run"

venv: $(VENV)/installed

# Rebuilt whenever the project's requirements change.
$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/check_types.py

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(PYTEST) -n auto --dist loadfile -m "not slow and not gpu and not network"

test-all: lint
	$(PYTEST) -m "not gpu and not network"

# The pages are made from the text of the files: of the project's requirements, only those of the extra are installed.
docs: $(DOCS_VENV)/installed
	$(DOCS_VENV)/bin/python -m mkdocs build --strict

$(DOCS_VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python .ci/requirements_of_extra.py docs > $(DOCS_VENV)/requirements.txt
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -r $(DOCS_VENV)/requirements.txt
	@touch $@

# All of it under one clock, installation included.
demo:
	@started=$$(date +%s); \
	$(MAKE) --no-print-directory $(VENV)/installed-demo && \
	echo "Installation: $$(( $$(date +%s) - started )) s" && \
	$(BIN)/avt-distill demo && \
	echo "make demo: $$(( $$(date +%s) - started )) s with installation"

$(VENV)/installed-demo: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[demo]'
	@touch $@

# The others need data or an hour: see benchmarks/README.md.
bench: venv
	$(BIN)/python -m benchmarks.decoding --output bench_results/decoding.json
	$(BIN)/python -m benchmarks.streaming --num_layers 2 --num_frames 10 --repeats 3 --output bench_results/streaming.json
	$(BIN)/python -m benchmarks.step --models egtea_features --ways plain ours --repeats 2 --output bench_results/step.json
	$(BIN)/python -m benchmarks.imports --output bench_results/imports.json

# On a CPU it runs with tiny models, which shows only that it works.
gpu: venv
	$(BIN)/python -m benchmarks.gpu --output bench_results/gpu.json

clean:
	rm -rf $(VENV) $(DOCS_VENV) site bench_results demo_run build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
