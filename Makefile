# `make run` and `make test` do everything, from a fresh clone on: Python 3.11+, make, git and a
# package index are all they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint bench bench-cuda nightly clean

run: $(VENV)/installed
	$(BIN)/mcsim run colossus-1 -o colossus-1.nc

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks --output docs/performance.md

# On a machine with an NVIDIA GPU and its driver.
bench-cuda: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.cuda --output docs/cuda-performance.md

# Dieharder, a program apart (apt-get install dieharder), on the generator's words: a quarter of an hour.
nightly: $(VENV)/installed
	$(BIN)/python -m benchmarks.dieharder

clean:
	rm -rf $(VENV)

# Debian ships venv without pip in its basic package; as root that is mended here.
$(VENV)/pip-ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "mcsim needs Python 3.11 or newer; set PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		     && apt-get update -q && apt-get install -q -y python3-venv; } \
		|| { echo "Python's venv is missing: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/installed: $(VENV)/pip-ready pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@
