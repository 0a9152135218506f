# `make help` lists the targets. Variables that they honour:
#   PYTHON  the interpreter to make the environment with (3.11 or later)
#   VENV    where the environment is; by default .venv, or .venv-3.12 and so
#           on where PYTHON is given
#   JOBS    how many processes run tests side by side; 0 for this one
#   ARGS    further arguments for pytest, as in: make test ARGS="-k yogi"

ifeq ($(origin PYTHON),undefined)
PYTHON := python3
VENV ?= .venv
else
VENV ?= .venv-$(shell $(PYTHON) -c \
	'import sys; print("%d.%d" % sys.version_info[:2])')
endif

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest --doctest-modules -n $(JOBS) \
	--dist worksteal $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help run test lint lock clean

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' \
		| expand -t 10

run: $(STAMP) ## Train on digits, 50 rounds, and report; installs what it needs
	$(BIN)/fedlearn train --dataset=digits --rounds=50 \
		--clients_per_round=10 --output_dir=runs/quickstart --resume
	$(BIN)/fedlearn report runs/quickstart

# Both runs happen even if the first one fails, and either fails the target.
# The second leaves out what does not depend on the backend.
test: $(STAMP) ## Run tests, doctests, tutorials on TensorFlow; tests on JAX
	@status=0; \
	echo "== TensorFlow =="; \
	KERAS_BACKEND=tensorflow $(PYTEST) || status=1; \
	echo "== JAX =="; \
	KERAS_BACKEND=jax $(PYTEST) -m "not backend_free" || status=1; \
	exit $$status

lint: $(STAMP) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: ## Renew requirements.lock; LOCK_FLAGS=--upgrade takes new versions
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && \
	$(PYTHON) -m venv "$$tools" && \
	"$$tools/bin/pip" install --quiet uv && \
	"$$tools/bin/uv" pip compile --quiet --universal \
		--python "$$tools/bin/python" --python-version 3.11 --extra dev \
		--no-emit-index-url --no-emit-find-links \
		--annotation-style line --custom-compile-command "make lock" \
		$(LOCK_FLAGS) --output-file requirements.lock setup.py

clean: ## Remove caches and build results; keeps the environment and runs/
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis
	find fedlearn tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fedlearn needs Python 3.11 or later; '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>&1)." \
			"Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments. On Debian and" \
			"Ubuntu, install the package python3-venv." >&2; exit 1; }
	@echo "Installing into $(VENV): some minutes, the first time."
	@$(PYTHON) -m venv "$(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--requirement requirements.lock
	@# The locked setuptools builds it, so nothing unpinned is fetched.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --editable .
	@touch $@
