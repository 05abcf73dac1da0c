# Everything here works on a fresh machine that has only Python >= 3.11 with pip, and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test torture bench docs lint install clean

KILLS ?= 200
PAIRS ?= 5

run: $(STAMP)  ## a whole run on the embedded model: two rounds, then where to look next
	$(BIN)/selfalign run flows/quickstart.yaml

test: $(STAMP)  ## lint, types and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

torture: $(STAMP)  ## random kills over whole runs, tables and weights compared with an undisturbed run
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.e2e.torture --kills $(KILLS)

bench: $(STAMP)  ## measured ratios against peers: make bench ONLY=judging,dpo PAIRS=5 VLLM_PYTHON=...
	$(BIN)/python -m tests.benchmarks --pairs $(PAIRS) $(if $(ONLY),--only $(ONLY)) $(if $(VLLM_PYTHON),--vllm-python $(VLLM_PYTHON))

# The modules are the table's in docs/api.md; what pdoc warns of is an error.
docs: $(STAMP)  ## the API from docstrings, as HTML in build/docs
	$(BIN)/python -W error::UserWarning -m pdoc --docformat google --output-directory build/docs \
		$$(sed -n 's/^| `\(selfalign[a-z_.]*\)` |.*/\1/p' docs/api.md)

lint: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

install: $(STAMP)

# torch first and by its exact version: a machine may keep a CPU build of just that one, and a plain
# requirement would take the newest with gigabytes of CUDA beside it.
$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): about two minutes, 2.4 GB"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
