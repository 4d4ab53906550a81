# Every task of the project; `make help` lists them. A task makes the environment it needs, and
# installs again only when pyproject.toml has changed. Settings, as in `make test WORKERS=8`:
#   PYTHON    the interpreter that environments are made from (default: the first that is new enough)
#   VENV      where the environment lies
#   WORKERS   how many processes run the tests
#   TESTS     what pytest runs: paths and options, as in `make test TESTS="tests/solver -k euler"`

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

VENV ?= .venv
VENV_OLDEST ?= .venv-oldest
WORKERS ?= 2
TESTS ?=

RUN := $(VENV)/bin/python -m
RUN_OLDEST := $(VENV_OLDEST)/bin/python -m
PIP_INSTALL := pip install --quiet --quiet --disable-pip-version-check --editable
PYTEST := pytest --numprocesses=$(WORKERS) --dist=worksteal

##@ Using flowjax
.PHONY: help demo samplers notebooks test test-all
help: ## List the tasks
	@awk 'BEGIN { FS = ":.*## " } \
	    /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-examples ## See an ODE, an SDE, and a flow model that learns to draw digits
	$(VENV)/bin/python examples/linear_ode.py out
	$(VENV)/bin/python examples/ornstein_uhlenbeck.py out
	$(VENV)/bin/python examples/digits.py out

samplers: $(VENV)/.installed-examples ## Compare samplers on the digits, call by call
	$(VENV)/bin/python examples/digit_samplers.py out

notebooks: $(VENV)/.installed-notebooks ## Make and run the notebooks from their scripts
	$(VENV)/bin/python tools/notebooks.py

test: $(VENV)/.installed-test ## Run the tests
	$(RUN) $(PYTEST) $(TESTS)

test-all: $(VENV)/.installed-test ## The same with those that a nightly job runs
	$(RUN) $(PYTEST) -m "" $(TESTS)

##@ Measuring flowjax
.PHONY: bench bench-full bench-check
bench: $(VENV)/.installed-bench ## Compare the speed with a plain scan and other solvers
	$(VENV)/bin/python benchmarks/run.py --short

bench-full: $(VENV)/.installed-bench ## The same with more rounds, for figures that are quoted
	$(VENV)/bin/python benchmarks/run.py --full

bench-check: $(VENV)/.installed-bench ## Fail if a ratio is worse than in benchmarks/results
	$(VENV)/bin/python benchmarks/run.py --short --json out/check.json
	$(VENV)/bin/python benchmarks/check.py out/check.json --again 2

##@ Working on flowjax
.PHONY: setup hooks check lint format types floors test-oldest docs build check-build clean
setup: $(VENV)/.installed-dev ## Make the environment with all the tools

hooks: $(VENV)/.installed-dev ## Run lint, types and floors before each git commit
	$(RUN) pre_commit install

check: lint types floors test test-oldest ## Run every check: lint, types, floors, both test suites

lint: $(VENV)/.installed-dev ## Check the format and the style (ruff)
	$(RUN) ruff format --check .
	$(RUN) ruff check .

format: $(VENV)/.installed-dev ## Format the code and repair what can be repaired (ruff)
	$(RUN) ruff check --fix --exit-zero --quiet .
	$(RUN) ruff format .

types: $(VENV)/.installed-dev ## Check the types (pyright)
	$(RUN) pyright --pythonpath $(VENV)/bin/python

floors: $(VENV)/.installed-dev ## Check that imports go strictly downward (import-linter)
	$(VENV)/bin/lint-imports --no-logo

test-oldest: $(VENV_OLDEST)/.installed-test ## Run every test on the oldest supported versions
	@echo "The tests, on: $$(tr '\n' ' ' < $(VENV_OLDEST)/constraints.txt)"
	$(RUN_OLDEST) $(PYTEST) $(TESTS)

docs: $(VENV)/.installed-docs ## Build the documentation into out/docs; a warning is an error
	$(RUN) sphinx --fail-on-warning --keep-going --quiet docs out/docs
	@echo "Look at it: python3 -m http.server --directory out/docs --bind 127.0.0.1"

build: $(VENV)/.installed-dev ## Build the wheel and the source archive into dist/
	$(RUN) build

check-build: $(VENV)/.installed-dev ## Build both, and check them in a clean environment
	$(VENV)/bin/python tools/check_wheel.py

clean: ## Delete the environments, the caches and what the tasks wrote
	rm -rf $(VENV) $(VENV_OLDEST) dist out .pytest_cache .ruff_cache .import_linter_cache
	find flowjax tests tools examples benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# --- the environments -----------------------------------------------------------------------------

# $(call make_venv,directory,interpreters to try)
define make_venv
@minor=$$(sed -n 's/^requires-python = ">=3\.\([0-9]*\)"$$/\1/p' pyproject.toml); \
for python in $(2); do \
    if "$$python" -c "import sys; sys.exit(sys.version_info < (3, $$minor))" 2>/dev/null; then \
        echo "Making the environment $(1) from $$("$$python" --version) ..."; \
        "$$python" -m venv --clear $(1) && exit 0; \
        rm -rf $(1); \
        echo "error: '$$python -m venv' failed; on Debian and Ubuntu install the python3-venv package." >&2; \
        exit 1; \
    fi; \
done; \
echo "error: flowjax needs Python 3.$$minor or newer; tried: $(2)." >&2; \
echo "       Name one with: make PYTHON=/path/to/python3.$$minor $(MAKECMDGOALS)" >&2; \
exit 1
endef

# $(call install,extra)
define install
@echo "Installing flowjax with its '$(1)' packages into $(@D); the first time this takes minutes ..."
@$(@D)/bin/python -m $(PIP_INSTALL) '.[$(1)]'
endef

$(VENV)/bin/python:
	$(call make_venv,$(VENV),$(or $(PYTHON),python3 python3.13 python3.12 python3.11 python))

$(VENV)/.installed-examples: pyproject.toml $(VENV)/bin/python
	$(call install,examples)
	@touch $@

$(VENV)/.installed-bench: pyproject.toml $(VENV)/bin/python
	$(call install,bench)
	@touch $@

$(VENV)/.installed-docs: pyproject.toml $(VENV)/bin/python
	$(call install,docs)
	@touch $@

$(VENV)/.installed-notebooks: pyproject.toml $(VENV)/bin/python
	$(call install,notebooks)
	@touch $@ $(@D)/.installed-examples

# The packages of `test` hold those of `examples`, and those of `dev` hold both.
$(VENV)/.installed-test: pyproject.toml $(VENV)/bin/python
	$(call install,test)
	@touch $@ $(@D)/.installed-examples

$(VENV)/.installed-dev: pyproject.toml $(VENV)/bin/python
	$(call install,dev)
	@touch $@ $(@D)/.installed-examples $(@D)/.installed-test

# The oldest versions run on the oldest Python, where there is one.
$(VENV_OLDEST)/bin/python:
	$(call make_venv,$(VENV_OLDEST),$(or $(PYTHON),python3.11 python3.12 python3.13 python3 python))

$(VENV_OLDEST)/.installed-test: pyproject.toml tools/lower_bounds.py $(VENV_OLDEST)/bin/python
	@$(VENV_OLDEST)/bin/python tools/lower_bounds.py > $(@D)/constraints.txt
	@echo "The oldest supported versions: $$(tr '\n' ' ' < $(@D)/constraints.txt)"
	$(call install,test) --constraint $(@D)/constraints.txt
	@touch $@
