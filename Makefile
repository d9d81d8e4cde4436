# All that is done with this repository. The targets set up what they need, in .venv: Python 3.11, g++ and make suffice.

PYTHON ?= python3
VENV := .venv
PARITY := .venv-peers/parity
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -qq
# An editable install leaves the byte code to the first import, or where PYTHONDONTWRITEBYTECODE is set to each of them.
COMPILE := $(PY) -m compileall -q src
# Whatever the wheel is built from, apart from Python files: these are read where they lie.
BUILT_FROM := pyproject.toml CMakeLists.txt $(shell find native -type f)
CXX_SOURCES := $(shell find native -name '*.cpp' -o -name '*.h')
MODEL ?= smollm2
PROMPT ?= Explain in a few sentences why the sky is blue.
# Not with --quiet, which hides warnings from --strict too. The variable silences an advertisement.
SITE := NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

.PHONY: help demo test test-arm check docs bench bench-peers parity wheels soak-engine soak fuzz format clean
.DEFAULT_GOAL := help

help: ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.core ## Install, pull a small chat model, and stream an answer.
	$(VENV)/bin/lepton pull $(MODEL)
	$(VENV)/bin/lepton run $(MODEL) --prompt "$(PROMPT)" --max-tokens 160 --seed 0

test: $(VENV)/.dev ## Run the tests.
	$(PY) -m pytest

test-arm: $(VENV)/.dev ## Run the tests of kernels on arm64, in QEMU: some minutes.
	$(PY) scripts/test_arm.py

check: $(VENV)/.dev ## Check format, lint, types, import direction and documentation.
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/clang-format --dry-run -Werror $(CXX_SOURCES)
	$(VENV)/bin/mypy
	for script in .ci/run; do sh -n $$script || exit 1; done
	$(PY) -m pytest -q tests/test_structure.py tests/test_docs.py
	$(SITE)

docs: $(VENV)/.dev ## Build the documentation as a site, in build/site.
	$(SITE)

bench: $(VENV)/.dev ## Measure speed beside llama.cpp, ONNX Runtime and OpenVINO, fetched first: some minutes.
	$(PY) -m bench.peers --short

bench-peers: $(VENV)/.dev ## Measure speed beside every other engine, and write docs/benchmarks.md: an hour or two, can be resumed.
	$(PY) -m bench.peers --write-page

parity: $(VENV)/.dev ## Compare live with transformers and llama.cpp.
	$(PY) -m bench.peers.environments parity
	$(PY) -m pytest tests/parity -m parity --peers-python $(PARITY)/bin/python

format: $(VENV)/.dev ## Format the sources.
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(CXX_SOURCES)

wheels: $(VENV)/.dev ## Build the wheel that is published, and try it in a fresh environment.
	$(PY) scripts/make_wheels.py

soak-engine: $(VENV)/.dev ## Send 2,000 requests of mixed shape to an engine with little memory: some minutes.
	LEPTON_TEST_SCHEDULER_STEPS=50000 $(PY) -m pytest -q tests/engine/test_scheduler_properties.py
	$(PY) -m scripts.soak_engine

soak: $(VENV)/.dev ## Send 2,000 requests of mixed shape to a server with little memory, and kill servers: some minutes.
	$(PY) -m scripts.soak_serve

fuzz: $(VENV)/.dev ## Throw 100,000 mutated files at each reader of files from outside.
	$(PY) scripts/fuzz.py gguf --inputs 100000
	$(PY) scripts/fuzz.py safetensors --inputs 100000
	$(PY) scripts/fuzz.py tokenizer --inputs 100000
	$(PY) scripts/fuzz.py gguf-tokenizer --inputs 100000

clean: ## Remove everything that is made here; models stay where they are.
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests bench scripts -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.base: scripts/bootstrap.py
	$(PYTHON) scripts/bootstrap.py $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.base $(BUILT_FROM)
	@echo 'building the native core and installing Lepton: a minute or two'
	$(PIP) install --no-build-isolation --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: $(VENV)/.base $(BUILT_FROM)
	@echo 'building the native core and installing Lepton with its development tools: a minute or two'
	$(PIP) install --no-build-isolation --editable '.[dev]'
	@$(COMPILE)
	@touch $(VENV)/.core $@
