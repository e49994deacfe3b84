# make demo   compile the shipped cart-pole policy for a Cortex-M4, simulate and verify it
# make test   run the default tests (make test-slow: the long ones)
# make lint   ruff and mypy
# The environment in .venv is made from pyproject.toml and constraints.txt, anew only when one of them changes.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INPUTS := pyproject.toml setup.py constraints.txt
export OMP_NUM_THREADS = 1

.PHONY: demo test test-slow lint clean

demo: $(VENV)/.compiler
	$(BIN)/ncpc compile examples/cartpole/policy.safetensors --target cortex-m4 -o build/cartpole

test: $(VENV)/.everything
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.everything
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.everything
	$(BIN)/ruff check .
	$(BIN)/mypy -p ncpc

$(VENV)/.compiler: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "ncpc's pinned environment needs Python 3.11; make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 3; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch,c,sim]'
	@touch $@

$(VENV)/.everything: $(VENV)/.compiler
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,consumers,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
