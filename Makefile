# Every target sets itself up in .venv: only python3, make and git are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check bench docs conformance protos clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,data,viz,xla,convert]'
	touch $@

demo: $(STAMP)  ## train a convolutional network on real handwritten digits
	$(BIN)/noria train digits --out runs/demo --fresh

test: $(STAMP)  ## everything a user can run
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)  ## generate docs/coverage.md and a page for each operator
	$(BIN)/python -m noria.testing.table docs/coverage.md
	$(BIN)/python -m noria.testing.pages docs/ops

NORIA_VECTORS ?= ../shared/vectors
conformance: $(STAMP)  ## judge by suites and models that others made
	NORIA_SENTENCES=500 $(BIN)/python -m noria.testing.conformance --vectors $(NORIA_VECTORS) --tests tests \
		--json conformance.json --page docs/conformance.md

protos: $(STAMP)  ## compile the schemas of other frameworks' files
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. noria/convert/protos/*.proto

bench: $(STAMP)  ## measure beside six rivals, each in an environment of its own: about half an hour
	$(BIN)/python -m bench.environments
	$(BIN)/python -m bench
	$(BIN)/python -m bench.readme

clean:
	rm -rf $(VENV) bench/.envs bench/.cache runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache
