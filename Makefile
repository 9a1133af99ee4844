# Everything runs in a virtual environment of the project's own. `make demo` and `make test` need Python 3.11 to 3.13 and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := setup.py tfmi training serving benchmarks tests examples docs
# TensorFlow's start-up notices say nothing to users of these targets.
export TF_CPP_MIN_LOG_LEVEL ?= 3
export NO_MKDOCS_2_WARNING ?= 1

# One process per core, a file at a time in the order of tests/conftest.py, each on one thread: TensorFlow's threads would only get into
# each other's way.
PYTEST = OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install demo explore notebooks test test-all lint types tests doctest docs short lock audit clean clean-runs

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed ## make the virtual environment with the locked versions

$(VENV)/.installed: requirements.lock setup.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed; name one with: make PYTHON=python3.11 ...")'
	@echo "Installing into $(VENV) (about 3 GB with TensorFlow; a minute or two) ..."
	@$(PYTHON) -m venv $(VENV)
	@# Modules are compiled when they are first imported; most of TensorFlow's never are.
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: install ## train, evaluate, export, serve and ask for recommendations
	@$(BIN)/python training/demo.py

explore: install ## open the interest explorer on the demo's model, which is trained first if there is none
	@ls savedmodels/mind/[0-9]* > /dev/null 2>&1 || $(BIN)/python training/train.py --set 'export.filterable=[category, brand, tags, price]'
	@$(BIN)/python serving/explorer.py --model-base-path savedmodels/mind

test: install $(VENV)/.installed-docs ## lint, types, the tests, the examples of docstrings and the documentation
	@# Two at a time: tests begin while types are still read. If one fails, the others come to their end and the whole fails.
	@$(MAKE) --no-print-directory --jobs=2 lint types docs tests

test-all: lint types install ## and every system through all commands, ten minutes more
	$(PYTEST)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy $(SOURCES)

tests: install
	$(PYTEST) -m "not long" --doctest-modules tests tfmi

doctest: install ## the examples in docstrings
	$(PYTEST) --doctest-modules tfmi

docs: $(VENV)/.installed-docs ## build the documentation into site/; any warning is an error
	$(BIN)/mkdocs build --quiet --strict

$(VENV)/.installed-docs: $(VENV)/.installed requirements-docs.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -r requirements-docs.lock
	@touch $@

notebooks: install ## run the notebooks of examples/ and store what they show
	$(BIN)/python -m tests.notebooks

short: install ## the tests that take seconds
	$(PYTEST) -m "not slow"

# Tools that look at the locked versions, in an environment of their own.
TOOLS := $(VENV)-tools
# A locked version with its marker, without its hashes.
LOCKED := '^[A-Za-z0-9_.-]+==[^ ;]+( *;[^\\]*[^ \\])?'

$(TOOLS)/.installed: tools_requirements.txt
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install --quiet --disable-pip-version-check -r tools_requirements.txt
	@touch $@

lock: $(TOOLS)/.installed ## write requirements.lock again, with the hashes of every file of the versions that stand in it
	@grep -oE $(LOCKED) requirements.lock > requirements.lock.in
	@$(TOOLS)/bin/uv pip compile requirements.lock.in --quiet --no-deps --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --output-file requirements.lock.new
	@rm requirements.lock.in
	@mv requirements.lock.new requirements.lock

audit: $(TOOLS)/.installed ## known vulnerabilities of the locked versions, and an SBOM (build/sbom.json, CycloneDX)
	@mkdir -p build
	@$(TOOLS)/bin/cyclonedx-py requirements requirements.lock --output-file build/sbom.json
	$(TOOLS)/bin/pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict

clean: ## remove the environment and what tools have written; runs and models stay
	rm -rf $(VENV) $(TOOLS) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache

clean-runs: ## remove all training runs under runs/
	rm -rf runs
