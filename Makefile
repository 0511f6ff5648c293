# `make app` and `make test` do all their own set-up; a second call finds it done and starts at once.
SHELL := /bin/bash
PYTHON := .venv/bin/python
DATA ?= data

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
	$(PYTHON) -m training.eval_ecp $(DATA)/nasap-aligned.npz
	$(PYTHON) -m training.eval_pianist

soak: .venv/.test
	$(PYTHON) -m pytest -m soak --timeout 3600 tests

train-pianist: .venv/.test
	bash training/runs/pianist.sh

.venv/.app: pyproject.toml packages.txt .ci/environment .ci/system-packages
	.ci/system-packages python3-venv $$(cat packages.txt)
	.ci/environment app
	@touch $@

.venv/.test: pyproject.toml packages.txt .ci/environment .ci/system-packages
	.ci/system-packages python3-venv chromium $$(cat packages.txt)
	.ci/environment test
	@touch .venv/.app $@
