# Everything a newcomer needs; each target does its own set-up.
#   make quickstart                             no data needed: learn Push-T in minutes, score it, write a report
#   make test                                   all checks, as CI runs them
#   make train                                  learn Push-T from keypoints, then score it
#   make setup TORCH_INDEX_URL=<index of CPU wheels>    without gigabytes of CUDA on a machine that has no GPU

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX_URL ?=
BIN := .venv/bin

.PHONY: quickstart setup test test-all lint format type train bench clean

quickstart: setup
	$(BIN)/python train.py task=pusht_lowdim_generated recipe=quickstart hydra.run.dir=data/quickstart/run
	$(BIN)/python eval.py -c data/quickstart/run -o data/quickstart/eval --controls nearest_neighbor --overwrite

setup: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) "$(TORCH)"
	$(BIN)/pip install --quiet --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps robosuite==1.5.2   # its metadata asks for more than it imports, and for numpy 1
	touch $@

test: lint type
	$(BIN)/python -m pytest

test-all: lint type          # also the slow tests (tens of minutes)
	$(BIN)/python -m pytest -m "not gpu"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: setup
	$(BIN)/mypy

train: setup
	$(BIN)/python train.py task=pusht_lowdim

bench: setup                 # beside peers: ORIGINAL=, ORIGINAL_PYTHON=, PREPARE=, LEROBOT_PYTHON=, OUTPUT= (benchmarks/README.md)
	$(BIN)/python benchmarks/bench.py \
	  $(if $(ORIGINAL),--original $(ORIGINAL)) $(if $(ORIGINAL_PYTHON),--original-python $(ORIGINAL_PYTHON)) \
	  $(if $(PREPARE),--prepare $(PREPARE)) $(if $(LEROBOT_PYTHON),--lerobot-python $(LEROBOT_PYTHON)) \
	  $(if $(OUTPUT),--output $(OUTPUT))

clean:
	rm -rf .venv build *.egg-info
