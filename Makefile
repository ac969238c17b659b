# Every target makes what it needs, the virtual environment included: only Python 3.11+, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

DEMO_WORKSPACE ?= demo
SAMPLE := src/talent_factory/assets/portraits/dot_kairo.png
STYLE := configs/avatar/anime_mecha.yaml

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow test-gpu test-all check format docs bench clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | \
	  while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

venv: $(STAMP)  ## Make the virtual environment in .venv

# pip is renewed first: the one that venv brings looks for minutes for versions that fit
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'error: Python 3.11 or newer is needed; try: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo 'error: this Python cannot make virtual environments; on Debian: apt-get install python3-venv' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## The whole path on the sample portrait; ends with the path of a report page
	test -d data/avatar/style/anime_mecha/images || $(BIN)/talent --quiet sample data
	$(BIN)/talent run $(SAMPLE) --token dot_kairo --sex man --portrait-medium flat \
	  --portrait-words "neutral, purple shirt" --style $(STYLE) --workspace $(DEMO_WORKSPACE)

# One thread each: two processes whose libraries share all cores slow each other several times.
SPREAD := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test: $(STAMP)  ## Fast tests
	$(SPREAD)

test-slow: $(STAMP)  ## Slow and browser tests
	$(SPREAD) -m "(slow or browser) and not gpu"

test-gpu: $(STAMP)  ## Tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

test-all: $(STAMP)  ## Fast, slow and browser tests
	$(SPREAD) -m "not gpu"

check: $(STAMP)  ## Format, lint, types, import rules, generated docs
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py
	$(BIN)/python -m talent_factory.cli.reference --check docs

format: $(STAMP)  ## Let ruff put the code in order
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(STAMP)  ## Write the pages of docs/ that are made from the code
	$(BIN)/python -m talent_factory.cli.reference --write docs

bench: $(STAMP)  ## Measure the figures of benchmarks/README.md again
	set -e; for script in startup kits_index hostile demo likeness mixing mix_pairs render_speed service casting cast_memory train_speed resume_kills choice lipsync_demo lipsync_kills lipsync_loader lipsync_cost; do echo "== $$script"; $(BIN)/python benchmarks/$$script.py; done

clean:  ## Remove what can be made again: caches, builds and the demo workspace
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis $(DEMO_WORKSPACE) src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
