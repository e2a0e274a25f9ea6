# Two commands do all set-up: `make demo` and `make test`. They need Python and make only.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test ci full mnist peers models browser lowest docs clean

## demo: install, run the digits benchmark in every backend, and say where the report is
demo: $(VENV)/.all
	$(BIN)/harness run digits --out results

## test: lint, types, tests, and the suites on digits, per backend
test: $(VENV)/.tox
	$(BIN)/tox run

## ci: all that must pass before a change lands, on small networks; two environments at a time
ci: $(VENV)/.tox
	$(BIN)/tox run -e lint
	# The longest first, so that none of them is left alone at the end; models does mnist, too. base
	# is tested with the newest Python at hand, as lowest is with the oldest.
	HARNESS_TEST_PROCESSES=0 $(BIN)/tox run-parallel --parallel 2 --parallel-live --parallel-no-spinner \
	    --override 'testenv:base.base_python=python3.13,python3.12,python3.11' \
	    -e lowest,base,models,keras,jax,browser,peers,torch,docs,types,dist

## full: full trainings and measurements, and the times beside other libraries
full: $(VENV)/.tox
	$(BIN)/tox run -e full

## mnist: frameworks beside each other in one process, and real MNIST on small networks
mnist: $(VENV)/.tox
	$(BIN)/tox run -e mnist

## lowest: the tests with the lowest versions that pyproject.toml allows
lowest: $(VENV)/.tox
	$(BIN)/tox run -e lowest

## peers: agreement with Foolbox, torchattacks, CleverHans and ART on the same networks
peers: $(VENV)/.tox
	$(BIN)/tox run -e peers

## models: each kind of model and data in docs/models.md, with transformers, JAX and ONNX
models: $(VENV)/.tox
	$(BIN)/tox run -e models

## browser: the report and the live page in a headless Chromium, the server, and networks in Node
browser: $(VENV)/.tox
	$(BIN)/tox run -e browser

## docs: the site of the documentation, in build/site
docs: $(VENV)/.tox
	$(BIN)/tox run -e docs -- build/site

clean:
	rm -rf $(VENV) .tox build dist results

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.all: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

$(VENV)/.tox: $(BIN)/python
	$(BIN)/python -m pip install --quiet 'tox>=4.28'
	touch $@
