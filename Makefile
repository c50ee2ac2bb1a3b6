# Every target makes its own environment from nothing but Python >= 3.11. `make help` lists them.
# Another interpreter: `make test PYTHON=python3.13` (it gets an environment of its own).

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv$(if $(filter command line environment,$(origin PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export PIP_NO_INPUT = 1

.DEFAULT_GOAL := help
.PHONY: help install dev run test check lint format typecheck soak mutate bench ci docker-build docker-server docker-test clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS='	' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

$(VENV)/python.made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and none was found; name one: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11"; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run.made: pyproject.toml $(VENV)/python.made
	@echo "installing asgi-fault[fast]"
	@$(PIP) install -e '.[fast]'
	@touch $@

$(VENV)/dev.made: pyproject.toml $(VENV)/python.made
	@echo "installing asgi-fault[dev]"
	@$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/run.made

$(VENV)/bench.made: pyproject.toml $(VENV)/dev.made
	@echo "installing asgi-fault[bench]"
	@$(PIP) install -e '.[bench]'
	@touch $@

install: $(VENV)/run.made ## what the server needs to run
dev: $(VENV)/dev.made ## what developers need

run: $(VENV)/run.made ## serve on port 8000: make run ARGS='--port 0 --log-level debug'
	@exec $(BIN)/asgi-fault serve $(ARGS)

test: $(VENV)/dev.made ## run the tests: make test ARGS='-k partition'
	$(BIN)/python -m pytest -n auto $(ARGS)

soak: $(VENV)/dev.made ## run the tests that take long
	$(BIN)/python -m pytest -m soak $(ARGS)

mutate: $(VENV)/dev.made ## break the core in many places and see that the tests notice
	$(BIN)/python -m tests.mutate $(ARGS)

check: lint typecheck ## lint, formatting, types and architecture
	$(BIN)/python -m pytest -q tests/test_architecture.py

lint: $(VENV)/dev.made ## ruff, security rules included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/dev.made ## write the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(VENV)/dev.made ## mypy --strict
	$(BIN)/mypy

bench: $(VENV)/bench.made ## measure beside the peers: make bench ARGS=--quick
	$(BIN)/python benchmarks/run.py $(ARGS)

ci: check test ## what CI runs

docker-build: ## build the image
	docker build -f docker/Dockerfile -t asgi-fault .

docker-server: ## serve from the image on port 8000
	docker compose -f docker/compose.yaml up test-server

docker-test: ## load the served image
	docker compose -f docker/compose.yaml --profile load-test run --rm load-test

clean: ## remove environments and caches
	rm -rf .venv* .mypy_cache .pytest_cache .ruff_cache .hypothesis
