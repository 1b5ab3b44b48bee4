# Every target sets up what it needs: on a new machine `make demo` is enough.

PYTHON   ?= python3
BIN      := .venv/bin
READY    := .venv/ready
PEERS    := .venv-peers/ready
OFFICIAL := .venv-official/ready
ARGS     ?=

# All but eval_gpu.py, a script for machines that have a GPU and no environment of ours.
benches := $(filter-out tests/benchmarks/eval_gpu.py,$(wildcard tests/benchmarks/[a-z]*.py))
benches := $(subst _,-,$(patsubst tests/benchmarks/%.py,%,$(benches)))
studies := $(subst _,-,$(patsubst tests/studies/%.py,%,$(wildcard tests/studies/[a-z]*.py)))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test test-fast lint types format bench study docs clean

help: ## this list
	@echo 'usage: make VERB'
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { sub("%", "NAME", $$1); printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## install everything into .venv; does nothing when it is up to date

demo: $(READY) ## the whole story on a laptop in minutes: report in runs/demo
	$(BIN)/uda demo $(ARGS)

test: test-fast ## all tests, the fast ones first
	@echo '== the slow tests and those that start Ray, in two processes: ten minutes =='
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'slow or ray' $(ARGS)

test-fast: $(READY) ## the tests that take less than two seconds each and start no Ray
	@echo '== the fast tests, without Ray, one process for each core: two or three minutes =='
	$(BIN)/python -m pytest -q -n auto -m 'not slow and not ray' $(ARGS)

lint: $(READY) ## style: ruff's rules and its format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## static types: mypy
	$(BIN)/mypy

format: $(READY) ## rewrite the code in ruff's format, fix what it can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(benches:%=bench-%) ## all benches

bench-%: $(READY) ## one bench of tests/benchmarks: writes runs/bench/NAME.json
	@test -f tests/benchmarks/$(subst -,_,$*).py || { echo 'make: no bench "$*"; have: $(benches)' >&2; exit 2; }
	@mkdir -p runs/bench
	$(BIN)/python -m tests.benchmarks.$(subst -,_,$*) $(ARGS)

bench-ingest: $(PEERS)
bench-eval: $(OFFICIAL)
test: $(OFFICIAL)

study: $(studies:%=study-%) ## all studies; a run whose record is kept is not repeated

study-%: $(READY) ## one study of tests/studies: writes runs/study/NAME.json
	@test -f tests/studies/$(subst -,_,$*).py || { echo 'make: no study "$*"; have: $(studies)' >&2; exit 2; }
	@mkdir -p runs/study
	$(BIN)/python -m tests.studies.$(subst -,_,$*) $(ARGS)

docs: $(READY) ## write the figures of docs/results into the README
	$(BIN)/python -m tests.studies._readme

clean: ## remove caches and build leftovers; keeps .venv and runs
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find uda cluster tune_spaces tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'make: want Python 3.11 or later as "$(PYTHON)"; name another with PYTHON=python3.12' >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || \
		{ echo 'make: $(PYTHON) cannot make a virtual environment (on Debian: apt-get install python3-venv)' >&2; exit 2; }
	@echo 'Installing into .venv: a minute or two, about 6 GB on disk'
	@$(BIN)/pip install -qq --disable-pip-version-check -r requirements-dev.txt
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps -e .
	@touch $@

# What `make bench-ingest` compares with: an environment that sees .venv's packages, and the peers'.
$(PEERS): requirements-bench.txt $(READY)
	@test -x .venv-peers/bin/pip || $(BIN)/python -m venv .venv-peers
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(echo .venv-peers/lib/python*/site-packages)/uda.pth"
	@echo 'Installing the peers into .venv-peers: half a minute, about 0.3 GB on disk'
	@.venv-peers/bin/pip install -qq --disable-pip-version-check --no-deps -r requirements-bench.txt
	@touch $@

# The official program of Cityscapes, with the numpy that it runs with and nothing of ours.
$(OFFICIAL): requirements-official.txt $(READY)
	@test -x .venv-official/bin/pip || $(BIN)/python -m venv .venv-official
	@echo 'Installing the official Cityscapes program into .venv-official: seconds, about 0.1 GB on disk'
	@.venv-official/bin/pip install -qq --disable-pip-version-check --no-deps -r requirements-official.txt
	@touch $@
