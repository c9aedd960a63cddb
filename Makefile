# Every target sets itself up: a fresh machine needs nothing but Python 3.11 and make.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint bench docs clean

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(BIN)/zhiyin demo $(DEMO)

test: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations 25 --durations-min 3 $(TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/recommendations.py

docs: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/docs

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
