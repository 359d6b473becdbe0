# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Benchmarks that need nothing but this machine; others are given a study, a corpus or hours.
BENCHES := agreement ask censored check corpus coverage decisions moved plan report search storage train

# One thread a process: proxies this small gain little from two, and lose much on a busy machine.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test lowest newest lint types bench soak ray gpu wheel clean help

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## find a mixture, from documents to report, on this machine
	$(BIN)/climb-opt search demo --workers auto
	$(BIN)/climb-opt confirm demo --workers auto
	$(BIN)/climb-opt report demo --output runs/demo.html

test: $(STAMP)  ## run the tests (under 8 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 --dist worksteal

lowest:  ## run the tests with the lowest versions that pyproject.toml allows
	.ci/versions lowest

newest:  ## run the tests with the newest versions that there are
	.ci/versions newest

lint: $(STAMP)  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## check types
	$(BIN)/mypy

bench: $(STAMP)  ## print speed and quality as ratios against named references
	@for name in $(BENCHES); do echo "== $$name"; $(BIN)/python tests/bench/bench_$$name.py || exit 1; done

soak: $(STAMP)  ## crash tests, long form
	$(BIN)/python -m pytest -m slow tests/soak.py

ray: $(STAMP)  ## install Ray, and build a corpus on a cluster of two nodes that is started here
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	$(BIN)/python -m pytest tests/test_ray_engine.py -m ''

gpu: $(STAMP)  ## on a GPU machine: its tests, its speed, a search of 112 proxies of 10M parameters
	$(BIN)/python -m pytest -m gpu tests/gpu
	$(BIN)/python tests/bench/bench_gpu.py --proxy 350m
	$(BIN)/python tests/bench/bench_gpu.py --proxy 62m
	$(BIN)/climb-opt search demo-gpu --workers auto
	$(BIN)/climb-opt confirm demo-gpu --workers auto
	$(BIN)/climb-opt report demo-gpu --output runs/demo-gpu.html

wheel: $(STAMP)  ## build the wheel
	$(BIN)/python -m build --wheel --outdir dist

clean:  ## remove what the commands above made, but the environment
	rm -rf dist build runs corpora/*/ .pytest_cache .mypy_cache .ruff_cache .hypothesis
