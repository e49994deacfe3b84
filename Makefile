# make demo   compile the shipped cart-pole policy for a Cortex-M4, simulate and verify it
# make test   run the default tests (make test-slow: the long ones)
# make test-newest   what needs no torch, on the newest releases of everything (Python 3.13, an environment of its own)
# make mutation   plant small faults into proofs, semantics and verification, and count those that no test notices (hours)
# make rtl    compare the simulator's cycles with the RTL of cores: every compiled policy, step by step
# make rtl-fuzz SEED=N   the same of 1,000 random programs a core; those that differ are made short and kept
# make lint   ruff and mypy
# The environment in .venv is made from pyproject.toml and constraints.txt, anew only when one of them changes.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INPUTS := pyproject.toml setup.py constraints.txt
NEWEST_PYTHON ?= python3.13
NEWEST := .venv-newest
NEWEST_EXTRAS := c,sim,onnx,tflite,nir,plot
# Every part once: files, cells, numbers, proofs, generated C, the simulator, graphs, reports.
NEWEST_TESTS := $(addprefix tests/test_,$(addsuffix .py,container cli builds pipeline verify report ir semantics \
  invariance c_code linearize solvers solver_study anatomy fuse lif sim_timing sim_run wiring_picture)) \
  tests/onnx tests/tflite/test_float.py
# What these extras leave out, and what only runs on top of it: its tests are skipped, all others must run.
export NCPC_WITHOUT_NEWEST = torch ncps brevitas keras gymnasium vela norse snntorch spikingjelly nirtorch
export OMP_NUM_THREADS = 1

.PHONY: mutation demo test test-slow test-newest rtl rtl-fuzz lint clean

demo: $(VENV)/.compiler
	$(BIN)/ncpc compile examples/cartpole/policy.safetensors --target cortex-m4 -o build/cartpole

test: $(VENV)/.everything
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.everything
	$(BIN)/python -m pytest -m slow

test-newest: $(NEWEST)/.installed
	NCPC_WITHOUT="$$NCPC_WITHOUT_NEWEST" $(NEWEST)/bin/python -m pytest -q -n 2 --dist loadfile $(NEWEST_TESTS)

rtl-fuzz: $(VENV)/.everything
	$(BIN)/python -m tests.rtl fuzz $(if $(SEED),--seed $(SEED))

rtl: $(VENV)/.everything
	$(BIN)/python -m tests.rtl policies

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,consumers,dev,rtl]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps aeon
	@touch $@

$(NEWEST)/.installed: $(INPUTS)
	$(NEWEST_PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --editable '.[$(NEWEST_EXTRAS)]' \
	  pytest pytest-xdist hypothesis jsonschema scipy
	@touch $@

mutation: $(VENV)/.everything
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[mutation]'
	$(BIN)/python -m benchmarks.mutation

clean:
	rm -rf $(VENV) $(NEWEST) build dist *.egg-info
