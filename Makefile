# The commands a newcomer types. Everything runs from .venv, which is made from requirements.txt when it is missing or older.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

PHOTOGRAPHS := multibodies_jax/embedded/photographs

RESOLUTION ?= highest

.PHONY: help demo pretrained tables test test-fast test-versions torture lint docs lock clean

help:  ## Show this help.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .  # The command `multibodies`.
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.txt
	@touch $@

demo: $(VENV)/installed  ## Bodies for two photographs at once; then the whole method trained from nothing, in minutes, without any licence.
	@if $(BIN)/multibodies fetch detector; then set --; else \
	  echo "Without the detector the demo takes the keypoints that stand beside its two photographs."; set -- --people=$(PHOTOGRAPHS)/people.json; fi; \
	  $(BIN)/multibodies predict $(PHOTOGRAPHS) --out=runs/photographs "$$@"
	$(BIN)/python run.py --config=configs/demo.py --workdir=runs/demo

pretrained: $(VENV)/installed  ## Train the weights that ship with the package: POSES=FILE of motion capture (configs/pretrained.py says what it costs).
	$(BIN)/python run.py --config=configs/pretrained.py --workdir=runs/pretrained --config.data.people=$(or $(POSES),$(error Give the file of motion capture: make pretrained POSES=cmu_poses.npz))
	$(BIN)/python -m multibodies_jax.prediction.pretrained --workdir=runs/pretrained

tables: $(VENV)/installed  ## Train and evaluate every method for three seeds, print the paper's two tables; go on after a stop. MINUTES=40 stops.
	$(BIN)/python -m multibodies_jax tables --workdir=runs/tables --out=runs/tables/report --minutes=$(or $(MINUTES),0)

test: $(VENV)/installed-dev  ## Run the whole test suite.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/installed-dev  ## Run the tests that take less than half a second each.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-versions:  ## Run it with the newest versions that pyproject.toml allows, or RESOLUTION=lowest-direct the lowest; PYTHON=python3.13.
	$(PYTHON) -m venv --clear .venv-$(RESOLUTION)
	.venv-$(RESOLUTION)/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-$(RESOLUTION)/bin/uv pip install --quiet --python .venv-$(RESOLUTION)/bin/python --resolution $(RESOLUTION) --editable .[dev]
	.venv-$(RESOLUTION)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

torture: $(VENV)/installed-dev  ## Damage every kind of file and kill every kind of process, for MINUTES=10, and count what went wrong.
	$(BIN)/python -m tests.torture --minutes=$(or $(MINUTES),10)

lint: $(VENV)/installed-dev  ## Formatting, lint and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/installed-docs  ## The documentation site, into site/; stops at a broken link.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: $(VENV)/installed-dev  ## Renew requirements{,-dev,-docs,-beam}.txt from pyproject.toml.
	$(BIN)/python -m pip install --quiet uv
	UV_CUSTOM_COMPILE_COMMAND="make lock   (uv pip compile of pyproject.toml, for Python 3.11 to 3.14 on every platform, with hashes)" $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --group build pyproject.toml -o requirements.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock   (uv pip compile of pyproject.toml, for Python 3.11 to 3.14 on every platform, with hashes)" $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --group build --extra dev -c requirements.txt pyproject.toml -o requirements-dev.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock   (uv pip compile of pyproject.toml, for Python 3.11 to 3.14 on every platform, with hashes)" $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --extra docs -c requirements.txt pyproject.toml -o requirements-docs.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock   (uv pip compile of pyproject.toml, for Python 3.11 to 3.14 on every platform, with hashes)" $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --extra beam pyproject.toml -o requirements-beam.txt

clean:  ## Remove the virtual environment and caches, not your data or runs.
	rm -rf $(VENV) .venv-* .pytest_cache .ruff_cache .hypothesis
