# `make app` and `make test` do all their own set-up; a second call finds it done and starts at once.
SHELL := /bin/bash
PYTHON := .venv/bin/python
# For `make eval` and `make train-pianist`: the corpora, see training/README or the model card
DATA ?= data
NASAP ?= $(DATA)/nasap/scores
VALIDATION ?= $(DATA)/validation

.PHONY: app test setup check bench eval soak train-pianist

app: .venv/.app
	$(PYTHON) app.py

test: .venv/.test
	$(PYTHON) -m pytest

setup: .venv/.test

check: .venv/.test
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pyright

bench: .venv/.test
	$(PYTHON) -m training.bench

eval: .venv/.test
	@for path in "$(DATA)/aligned/nasap-aligned.npz" "$(VALIDATION)/index.csv" "$(NASAP)"; do \
	    [ -e "$$path" ] || { echo "make eval: there is no $$path; give DATA=, NASAP= (unpacked scores) and VALIDATION= (unpacked measuring set)" >&2; exit 2; }; done
	$(PYTHON) -m training.eval_ecp "$(DATA)/aligned/nasap-aligned.npz"
	$(PYTHON) -m training.eval_pianist --set "$(VALIDATION)" --nasap "$(NASAP)"

soak: .venv/.test
	$(PYTHON) -m pytest -m soak --timeout 3600 tests

train-pianist: .venv/.test
	DATA="$(DATA)" bash training/runs/pianist.sh

.venv/.app: pyproject.toml packages.txt .ci/environment .ci/system-packages
	.ci/system-packages python3-venv $$(cat packages.txt)
	.ci/environment app
	@touch $@

.venv/.test: pyproject.toml packages.txt .ci/environment .ci/system-packages
	.ci/system-packages python3-venv chromium $$(cat packages.txt)
	.ci/environment test
	@touch .venv/.app $@
