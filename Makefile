# make run    the server with its demo CMS, from a fresh clone
# make test   style, types and all tests; installs what it needs into .venv
# make lint   style and types only
# make docs   the documentation, into docs/_build/html
# make bench  the short benchmarks (make bench-peers installs what they compare with)
# make faults kills the server again and again, and proves that nothing is lost
# make clean  removes everything that these make
#
# PYTHON=/path/to/python3 chooses the interpreter (3.11 or newer). ARGS="…" is passed on to the
# server (make run), pytest (make test), the benchmarks (make bench) or make faults.

VENV := .venv
BIN := $(VENV)/bin
SETUP := bash scripts/setup.sh
# The modules of the tests are shared out between a few processes; PARALLEL= runs them in one.
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile
# What is installed depends on these alone: the package itself is installed editable.
SOURCES := pyproject.toml setup.cfg scripts/setup.sh
export VENV

# An environment whose Python is gone, after an upgrade for instance, is made anew.
ifneq ($(wildcard $(VENV)/pyvenv.cfg),)
ifneq ($(shell $(BIN)/python -c 'print("runs")' 2>/dev/null),runs)
$(shell rm -f $(VENV)/.runtime $(VENV)/.test $(VENV)/.docs)
endif
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test lint docs bench bench-peers faults clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

run: $(VENV)/.runtime
	@exec $(BIN)/twisted-push serve --demo $(ARGS)

test: $(VENV)/.test
	@$(SETUP) tools
	@$(SETUP) npm
	@$(MAKE) --no-print-directory lint
	@$(BIN)/pytest $(PARALLEL) $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going -b html docs docs/_build/html

bench: $(VENV)/.runtime
	@test -f benchmarks/run.py || { echo "benchmarks/run.py does not exist"; exit 1; }
	@$(BIN)/python benchmarks/run.py --short $(ARGS)

bench-peers:
	@$(SETUP) peers

faults: $(VENV)/.test
	@$(BIN)/python -m tests.faults $(ARGS)

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info
	rm -rf tests/e2e/node_modules client/node_modules benchmarks/peers/node_modules
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache twistd.pid

# What is said meanwhile is not what `make bench` says, which is JSON.
$(VENV)/.runtime: $(SOURCES)
	@$(SETUP) install >&2
	@touch $@

# The other two hold what `run` needs, too.
$(VENV)/.test: $(SOURCES)
	@$(SETUP) install test,examples
	@touch $@ $(VENV)/.runtime

$(VENV)/.docs: $(SOURCES)
	@$(SETUP) install docs
	@touch $@ $(VENV)/.runtime
