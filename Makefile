# Two commands do all set-up: `make demo` and `make test`. They need Python and make only.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test mnist peers browser clean

## demo: install, run the digits benchmark in every backend, and say where the report is
demo: $(VENV)/.all
	$(BIN)/harness run digits --out results

## test: lint, types, tests, and the suites on digits, per backend
test: $(VENV)/.tox
	$(BIN)/tox run

## mnist: the checks on real MNIST, with both frameworks in one process
mnist: $(VENV)/.tox
	$(BIN)/tox run -e mnist

## peers: agreement with Foolbox, torchattacks, CleverHans and ART on the same networks
peers: $(VENV)/.tox
	$(BIN)/tox run -e peers

## browser: the report in a headless Chromium, which must be installed
browser: $(VENV)/.tox
	$(BIN)/tox run -e browser

clean:
	rm -rf $(VENV) .tox build dist results

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.all: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	touch $@

$(VENV)/.tox: $(BIN)/python
	$(BIN)/python -m pip install --quiet 'tox>=4.20'
	touch $@
