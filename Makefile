# make demo  - set up an environment, then forget two owners and show what came of it
# make test  - the fast tests          make test-slow - the slow ones
# make coverage - the fast tests, and what of core they execute
# make lint  - formatting, imports between parts, types
# make docs  - the generated pages, then the site in site/
# make bench - time and memory, a line of JSON each; see docs/performance.md
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SITE := $(VENV)/.site

.PHONY: demo test coverage test-slow lint docs bench clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or later is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ..."'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/deattrib demo

# One process per processor, one thread each.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadscope --no-loadscope-reorder

# Lines and branches of core that the fast tests execute, in every process that they start.
coverage: $(INSTALLED)
	$(BIN)/python -m coverage erase
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest --numprocesses auto --dist loadscope --no-loadscope-reorder --timeout 1200
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --sort cover

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check core plugins tests examples docs
	$(BIN)/ruff format --check core plugins tests examples docs
	$(BIN)/lint-imports
	$(BIN)/mypy

$(SITE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $(SITE)

# No network is needed beyond that installation; a warning is an error.
docs: $(SITE)
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# PEER=OTHER/bin/python: an environment with trl 1.12 to compare with. MODEL=FOLDER: a model for the larger measurements.
bench: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks.ppo_step $(if $(PEER),--peer $(PEER))
	$(BIN)/python -m tests.benchmarks.ppo_step --hidden 256 --layers 6 --vocabulary 4096 $(if $(PEER),--peer $(PEER))
	$(BIN)/python -m tests.benchmarks.rollout
	$(if $(MODEL),$(BIN)/python -m tests.benchmarks.rollout --model $(MODEL) --response 64 --rounds 3)
	$(if $(MODEL),$(BIN)/python -m tests.benchmarks.memory --model $(MODEL))
	$(BIN)/python -m tests.benchmarks.attribution
	$(BIN)/python -m tests.benchmarks.reward_share --demo classifier membership gradient trak influence overlap loss
	$(BIN)/python -m tests.benchmarks.growth --log growth.jsonl
	$(BIN)/python -m tests.benchmarks.memory_table

clean:
	rm -rf $(VENV) dist build site
