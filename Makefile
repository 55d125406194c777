# `make demo` and `make test` are all a fresh clone needs: each sets up .venv first, once.

PY_OK = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))
# 3.11 first: constraints.txt was frozen with it.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c '$(PY_OK)' 2>/dev/null && echo $$p && break; done)
BIN = .venv/bin
STAMP = .venv/.setup-done
PIP = $(BIN)/python -m pip --disable-pip-version-check
# Processes that run tests; each loads the encoder.
JOBS ?= 2
# Extra arguments: make test ARGS="-k filters"
ARGS ?=
# What is installed beside the default; the tests of the agent SDKs need recipes too.
EXTRAS ?= dev
# SAFEPATH keeps the repository root off sys.path, where `import agents` would find our folder.
# One thread a process: the test processes share the cores already.
TEST_ENV = PYTHONSAFEPATH=1 PYTHONHASHSEED=0 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false \
	OMP_NUM_THREADS=1

.DEFAULT_GOAL = help
.PHONY: help setup ragatouille demo test test-mcp1 lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with the tested versions (again when pyproject.toml changes)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(PY_OK)' || { \
		echo "retrail needs Python 3.11 to 3.14, but found: $$($(or $(PYTHON),python3) --version 2>&1)." >&2; \
		echo "Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@# Debian keeps ensurepip in a package of its own: then the system's pip fills the environment.
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { \
		$(PYTHON) -m venv --clear --without-pip .venv && \
		$(PYTHON) -m pip --python $(BIN)/python install pip; }
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

# Its llama-index would bring an openai older than the one tested here; only llama-index-core is used.
ragatouille: $(STAMP) ## add RAGatouille to .venv, for its late-interaction engine and tests
	$(PIP) install -c constraints.txt colbert-ai faiss-cpu fast-pytorch-kmeans llama-index-core ninja srsly voyager
	$(PIP) install -c constraints.txt --no-deps ragatouille

demo: $(STAMP) ## index, ask, learn and compare on a small corpus, offline
	$(BIN)/python examples/demo.py

test: $(STAMP) ## run the tests, offline (JOBS=2, ARGS="-k name")
	@env $(TEST_ENV) $(BIN)/pytest -n $(JOBS) --dist loadfile $(ARGS)

test-mcp1: $(STAMP) ## run the MCP tests again, with the first major version of the mcp package
	$(PIP) install --quiet --upgrade --target .mcp1 --no-deps 'mcp>=1.28,<2' 'httpx-sse>=0.4,<1'
	@env $(TEST_ENV) PYTHONPATH=$(CURDIR)/.mcp1 $(BIN)/pytest tests/test_mcp $(ARGS)

lint: $(STAMP) ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP) ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## measure everything the documentation claims
	$(BIN)/python benchmarks/run_all.py

clean: ## remove builds, caches and the demo's workspace (.venv stays)
	rm -rf build dist *.egg-info .demo .mcp1 .coverage .hypothesis .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
