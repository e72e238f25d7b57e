# Needs make and Python 3.11, 3.12 or 3.13; everything is installed into .venv, once.
#   make demo     learn to sell: train, evaluate, print the table, draw the learning curve
#   make test     the tests          make test-long   those that take minutes each
#   make lint     ruff and mypy      make clean       remove what can be made again; results stay
# Other interpreters and places: make demo PYTHON=python3.12 VENV=/tmp/parley

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
# Whom the demo's agents talk with, its budget, and where its runs go.
DEMO ?= env=sales user=hybrid budget=default seed=0
DEMO_RESULTS ?= results/demo

BIN := $(VENV)/bin
# One thread each: the models are small, and a second thread costs them more than it brings.
export OMP_NUM_THREADS = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: demo test test-long lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/python -m benchmarks.run --multirun agent=start,start_greedy,behaviour,expert,optimum,iterppo $(DEMO) results=$(DEMO_RESULTS)/runs
	$(BIN)/python -m results.leaderboard --runs $(DEMO_RESULTS)/runs --out $(DEMO_RESULTS)
	@echo
	@cat $(DEMO_RESULTS)/leaderboard.md
	@echo "Table: $(DEMO_RESULTS)/leaderboard.md"
	@ls $(DEMO_RESULTS)/*.png | sed 's/^/Plot:  /'

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m long -n $(JOBS) --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] < (3, 14) else "$(PYTHON) is Python " + sys.version.split()[0] + "; Parley needs 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.installed $@
