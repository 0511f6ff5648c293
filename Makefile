# `make app` and `make test` do all their own set-up; a second call finds it done and starts at once.
SHELL := /bin/bash
PYTHON := .venv/bin/python
# For `make eval`, `make eval-xmvae` and the training: the corpora, see the model cards
DATA ?= data
NASAP ?=
VALIDATION ?= $(DATA)/validation.tar.xz

.PHONY: app test setup check lint-page bench eval eval-xmvae eval-form eval-audio soak train-pianist train-composer train-xmvae

app: .venv/.app
	$(PYTHON) app.py

# The tests of one process run on all cores, those of the page in two browsers; those that start several servers or kill
# processes run alone afterwards. All three parts run, whatever fails.
ALONE := tests/browser tests/reliability
test: .venv/.test
	failed=0; \
	$(PYTHON) -m pytest -n logical --maxprocesses 8 --dist loadfile $(ALONE:%=--ignore=%) || failed=1; \
	$(PYTHON) -m pytest -n 2 --dist loadfile --durations=15 tests/browser || failed=1; \
	$(PYTHON) -m pytest --durations=15 tests/reliability || failed=1; exit $$failed

setup: .venv/.test

check: .venv/.test
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pyright
	if command -v node > /dev/null; then node --test tests/page/*.test.mjs; fi
	if [ -d tests/page/node_modules ]; then $(MAKE) lint-page; fi

# ESLint over the page's scripts; needs npm, and installs ESLint in tests/page the first time. `make check` runs it then.
lint-page: .venv/.test
	[ -d tests/page/node_modules ] || npm install --prefix tests/page --silent --no-fund --no-audit --no-package-lock
	$(PYTHON) -m tests.page.joined runs/page
	tests/page/node_modules/.bin/eslint -c tests/page/eslint.config.mjs runs/page

bench: .venv/.test
	$(PYTHON) -m training.bench

eval: .venv/.test
	DATA="$(DATA)" NASAP="$(NASAP)" VALIDATION="$(VALIDATION)" PYTHON=$(PYTHON) bash training/runs/eval.sh

eval-xmvae: .venv/.test
	DATA="$(DATA)" PYTHON=$(PYTHON) bash training/runs/eval-xmvae.sh

eval-form: .venv/.test
	DATA="$(DATA)" PYTHON=$(PYTHON) bash training/runs/eval-form.sh

eval-audio: .venv/.test
	DATA="$(DATA)" PYTHON=$(PYTHON) bash training/runs/eval-audio.sh

# The tests of reliability at their full counts (hours); the report is written whether they pass or not
soak: .venv/.test
	rm -f runs/soak/report.jsonl
	$(PYTHON) -m pytest -m soak --timeout 7200 tests; done=$$?; $(PYTHON) -m tests.helpers.soak_report; exit $$done

train-pianist: .venv/.test
	DATA="$(DATA)" bash training/runs/pianist.sh

train-composer: .venv/.test
	DATA="$(DATA)" bash training/runs/composer.sh

train-xmvae: .venv/.test
	DATA="$(DATA)" bash training/runs/xmvae.sh

.venv/.app: pyproject.toml packages.txt .ci/environment .ci/system-packages
	.ci/system-packages python3-venv $$(cat packages.txt)
	.ci/environment app
	@touch $@

.venv/.test: pyproject.toml packages.txt .ci/environment .ci/system-packages
	.ci/system-packages python3-venv chromium $$(cat packages.txt)
	.ci/environment test
	@touch .venv/.app $@
