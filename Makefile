# Set-up and checks. Needs make and Python >= 3.11; uses uv where it is installed.

# The interpreter a new environment is made from: `make test PYTHON=python3.13` chooses one.
PYTHON ?= python3
ifeq ($(origin PYTHON),file)
OTHERS := python3.14 python3.13 python3.12 python3.11
endif

VENV := .venv
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
DEMO := build/demo

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint format types layers docs pytest crash soak test-cluster bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.package ## Run the example on real input twice: computed, then restored
	@if [ -e $(DEMO)/.done ]; then rm -rf $(DEMO); fi
	@mkdir -p $(DEMO)
	@echo "==> first run, in $(DEMO)"
	@cd $(DEMO) && "$(CURDIR)/$(BIN)/python" "$(CURDIR)/examples/stdlib_census.py"
	@echo "==> second run, in the same folder"
	@cd $(DEMO) && "$(CURDIR)/$(BIN)/python" "$(CURDIR)/examples/stdlib_census.py"
	@touch $(DEMO)/.done

test: lint docs pytest ## Run every check and the tests

setup: $(VENV)/.dev ## Make the environment for development, in .venv

lint: $(VENV)/.dev types layers ## Check style, types and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## Check types
	$(BIN)/mypy dotflow_like $(wildcard tests/typing)

layers: $(VENV)/.dev ## Check that imports follow the one path
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.dev ## Build the documentation, in site/
	$(BIN)/mkdocs build --strict

pytest: $(VENV)/.dev ## Run the tests; ARGS="-k word" chooses
	$(BIN)/pytest $(ARGS)

crash: $(VENV)/.dev ## Run the tests that kill real processes
	@$(call marked,crash,600)

soak: $(VENV)/.dev ## Run the tests that take long
	@$(call marked,soak,7200)

test-cluster: $(VENV)/.dev ## Run the tests that need a cluster or a database server
	@$(call marked,cluster,600)

bench: $(BENCH_VENV)/.ready ## Measure, with the peers beside
	$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

clean: ## Remove everything this file made
	rm -rf $(VENV) $(BENCH_VENV) build dist site .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find dotflow_like tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Environments. A stamp inside each is renewed when pyproject.toml is newer.

$(VENV)/.package: pyproject.toml | $(BIN)/python
	@echo '==> installing the package into $(VENV)'
	@$(call install,$(VENV),)
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	@echo '==> installing the tools for development into $(VENV)'
	@$(call install,$(VENV),--group dev --group docs)
	@touch $@

$(BENCH_VENV)/.ready: pyproject.toml | $(BENCH_VENV)/bin/python
	@echo '==> installing the package and its peers into $(BENCH_VENV)'
	@$(call install,$(BENCH_VENV),--group bench)
	@touch $@

$(BIN)/python $(BENCH_VENV)/bin/python:
	@$(call make_venv,$(patsubst %/bin/python,%,$@))

# $(call install,environment,groups): the package, editable, and groups of pyproject.toml (pip knows them since 25.1).
ifneq ($(UV),)
install = $(UV) pip install --quiet --python $(1)/bin/python --editable . $(2)
else
install = $(1)/bin/python -m pip install --quiet "pip>=25.1" && $(1)/bin/python -m pip install --quiet --editable . $(2)
endif

# $(call make_venv,folder): from PYTHON if it will do, else from the newest other one that does.
define make_venv
for python in $(PYTHON) $(OTHERS); do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	recent="$$python"; \
	test -n "$(UV)" || "$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
	echo "==> $(1), from $$("$$python" --version)"; \
	if test -n "$(UV)"; then "$(UV)" venv --quiet --python "$$(command -v "$$python")" $(1); \
	else "$$python" -m venv $(1); fi || { rm -rf $(1); exit 1; }; \
	echo '*' > $(1)/.gitignore; \
	exit 0; \
done; \
if test -n "$$recent"; then \
	echo "$$recent cannot make virtual environments: its ensurepip is missing." >&2; \
	echo "On Debian and Ubuntu: apt install python3-venv. Or install uv." >&2; \
else \
	echo "Python 3.11 or newer is needed; $(PYTHON) is $$("$(PYTHON)" --version 2>/dev/null || echo missing)." >&2; \
	echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
fi; \
exit 1
endef

# $(call marked,marker,seconds): pytest ends with 5 when it collected nothing.
define marked
$(BIN)/pytest -m $(1) --timeout=$(2) $(ARGS); code=$$?; \
if test $$code -eq 5; then echo "No test is marked '$(1)' yet: nothing ran."; else exit $$code; fi
endef
