# One environment, .venv, from the hashed locks of requirements/. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python from 3.11 to 3.14 on PATH; `make test PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1 && { echo "$$p"; exit; }; done; echo python3)
BIN := .venv/bin
# No setting of this machine (mirrors, local wheels) may reach the locks.
LOCK = env -u PIP_FIND_LINKS -u UV_FIND_LINKS uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-header --quiet

# Tests start hundreds of processes: without bytecode each of them compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check lint types fast-tests modes bench walls chaos compose lock clean environment-demo environment-dev

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

environment-demo:
	@"$(PYTHON)" requirements/install.py demo

environment-dev:
	@"$(PYTHON)" requirements/install.py dev

demo: environment-demo ## the main job with its faults (KILL_STEP= RATE_LIMIT_STEP= BREAK_STEP= SEED= LIMIT=)
	@$(BIN)/python -m examples.environment_audit

# Three processes: the contract on a broker, what else needs one, the rest beside them.
test: environment-dev ## every test, on the in-memory log and on a real broker (ARGS= for pytest)
	@$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

check: lint ## format, lint, types, and the tests that are neither broker nor slow
	@$(MAKE) --no-print-directory -j2 types fast-tests

lint: environment-dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: environment-dev
	@$(BIN)/mypy

# Each worker collects all tests for itself: no more of them than the two cores.
fast-tests: environment-dev
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not broker and not slow"

modes: environment-dev ## the contract's suite in every engine mode; its last line is one JSON object (ARGS=--ci: CI's)
	@$(BIN)/python -m tests.contract.run_modes $(ARGS)

bench: environment-dev ## the benchmark; its last line is one JSON object
	@$(BIN)/python -m benchmarks

walls: environment-dev ## the largest runs (100,000 steps, 10,000 at once, 10 MB, 20,000 signals, fair keys); exit 1 beyond a bound; ARGS="--scale 0.1"
	@$(BIN)/python -m benchmarks.walls $(ARGS)

chaos: environment-dev ## one slice of the long campaign of faults; the last line is one JSON object (MINUTES= ARGS=)
	@$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),50) $(ARGS)

compose: environment-dev ## docker-compose.yml brought up with Docker, an engine killed, a volume lost; the last line is one JSON object
	@$(BIN)/python -m tests.k8s.compose_up

lock: ## resolve the hashed locks again (needs uv on PATH); LOCK_ARGS=--upgrade for newer versions
	@command -v uv >/dev/null || { echo "make lock needs uv on PATH: python3 -m pip install uv"; exit 1; }
	$(LOCK) pyproject.toml requirements/build.in $(LOCK_ARGS) --extra dev --output-file requirements/dev.txt
	$(LOCK) pyproject.toml requirements/build.in --extra demo --constraint requirements/dev.txt --output-file requirements/demo.txt
	$(LOCK) pyproject.toml --constraint requirements/dev.txt --output-file requirements/base.txt
	$(LOCK) pyproject.toml --extra audit --constraint requirements/dev.txt --output-file requirements/audit.txt
	$(LOCK) pyproject.toml --extra audit --extra s3 --constraint requirements/dev.txt --output-file requirements/s3.txt
	$(LOCK) requirements/build.in --constraint requirements/dev.txt --output-file requirements/build.txt

clean: ## remove the environment, caches and build products
	rm -rf .venv .ci-out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
