# demo, test, bench, lint: each makes its own .venv first. `make demo ARGS=--keep` leaves the fleet running.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := agent,litert,grpc,server,postgres,tools,tflite,openssf,hsm,hil,dev
# PYTHON=/path/to/python3 overrides the search.
PYTHON ?=
ARGS ?=

.PHONY: demo test bench lint conformance clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/python -m examples.digits.demo $(ARGS)

# Three at a time: most tests wait for programs that they started.
test: lint
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses 3 --dist loadfile)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

bench: $(VENV)/.installed-bench
	$(BIN)/python -m bench $(if $(ARGS),$(ARGS),sketch)

# SUITE=DIR is a checkout of tuf-conformance; see docs/conformance.md.
conformance: $(VENV)/.installed
	@test -d "$(SUITE)/tuf_conformance" || { echo "make conformance SUITE=DIR: DIR must be a checkout of tuf-conformance (docs/conformance.md)" >&2; exit 2; }
	test -x "$(SUITE)/venv/bin/python" || $(BIN)/python -m venv "$(SUITE)/venv"
	"$(SUITE)/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(SUITE)"
	EDGEFLEET_TUF_CONFORMANCE="$(abspath $(SUITE))" $(BIN)/python -m pytest tests/edge_agent/test_agent_tuf_conformance.py $(ARGS)

clean:
	rm -rf $(VENV) .demo *.egg-info

$(BIN)/python:
	@set -e; \
	for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "edgefleet needs Python 3.11 or newer; found: $$($(or $(PYTHON),python3) --version 2>/dev/null || echo none)." >&2; \
	  echo "Install one (Debian 12: apt install python3 python3-venv; or https://www.python.org/downloads/)," >&2; \
	  echo "or name one that you have: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
	  exit 1; \
	fi; \
	if ! "$$found" -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo "$$found cannot make virtual environments: its venv or pip module is missing." >&2; \
	  echo "Debian and Ubuntu: apt install python3-venv python3-pip; Fedora: dnf install python3-pip" >&2; \
	  exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS),bench]'
	@touch $@
