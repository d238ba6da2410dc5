# The habits; `make` alone lists them. PYTHON names the interpreter of your environment.
PYTHON ?= python

.PHONY: help install test slow matrix lint format types layers base notebooks clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

install:  ## install for development, at the tested versions
	$(PYTHON) -m pip install -c constraints.txt torch
	$(PYTHON) -m pip install -c constraints.txt -e '.[dev,app]'

test:  ## the fast tests
	$(PYTHON) -m pytest -n logical --dist loadfile

slow:  ## the slow tests: packages, whole runs
	$(PYTHON) -m pytest -m slow -n 2 --dist loadfile

matrix:  ## tests with other versions of transformers and peft
	$(PYTHON) -m scripts.matrix

lint:  ## style and format
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format:  ## put the code into its format
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types:  ## static types
	$(PYTHON) -m pyright

layers:  ## imports point down
	lint-imports

base:  ## train the shipped base anew (about 20 minutes)
	$(PYTHON) -m scripts.tiny_base.build

notebooks:  ## run the notebooks for a CPU and keep their outputs (about 15 minutes)
	$(PYTHON) -m scripts.notebooks

clean:  ## remove what tools leave behind; runs/ stays
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
