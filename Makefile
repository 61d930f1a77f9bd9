# make demo: from a fresh clone to enhanced video. Everything is installed into .venv; nothing else is touched.
# Another interpreter (3.10 to 3.13): make demo PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# Two tests at a time; one at a time, and in order: make test WORKERS=0
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint bench clean distclean

help:
	@echo "make demo       simulated camera to enhanced video, nothing to download but packages"
	@echo "make test       the fast tests          make test-slow  the long ones (kills, clean installs)"
	@echo "make lint       ruff and mypy           make bench      speed beside the peers, as ratios"
	@echo "make clean      what tools left behind  make distclean  and .venv"

# A stamp is newer than what it was installed from: when nothing changed, nothing is installed.
$(VENV)/.installed-demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "rtpipe needs Python 3.10 to 3.13; choose one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing rtpipe and what it needs (about 1 GB) into $(VENV)"
	$(INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed-demo requirements-test.txt
	$(INSTALL) -e '.[demo,dev]' -r requirements-test.txt
	@# it asks for torchvision, which it never imports and which does not work beside a CPU build of torch
	$(INSTALL) --no-deps event-pienet
	@touch $@

# TensorRT's Python bindings without its libraries, about 1 MB each: what is called is held against their signatures.
# One that this Python or machine has no wheel of is left out; its tests skip.
BINDINGS := tensorrt-cu12-bindings==10.3.0 tensorrt-cu12-bindings==10.13.3.9 tensorrt-cu13-bindings==11.4.0.106
$(VENV)/.installed-bindings: Makefile $(VENV)/.installed-test
	@for each in $(BINDINGS); do \
	  $(INSTALL) -q --no-deps --upgrade --target $(VENV)/tensorrt-bindings/$${each##*==} $$each \
	    || { echo "left out: $$each"; left=yes; }; \
	done; test -n "$$left" || touch $@

demo: $(VENV)/.installed-demo
	$(BIN)/rtpipe demo

test: $(VENV)/.installed-test $(VENV)/.installed-bindings
	$(PYTEST)

# pytest leaves with 5 when there is no test to run.
test-slow: $(VENV)/.installed-test
	$(PYTEST) -m slow || test $$? -eq 5

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy scripts

bench: $(VENV)/.installed-test
	$(BIN)/rtpipe bench window
	$(BIN)/rtpipe bench filters
	$(BIN)/rtpipe bench evt3
	$(BIN)/rtpipe bench transport
	$(BIN)/rtpipe bench latency

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find rtpipe drivers engines tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
