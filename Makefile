# Every target creates and fills .venv by itself from the hash-pinned lock files; a second call finds the stamp and
# starts at once. `run` needs the service's own packages only, the other targets the development ones as well.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3.11
PIP_INSTALL := .venv/bin/python -m pip install --quiet --disable-pip-version-check

UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --custom-compile-command "make lock"
RUN_LOCKS := requirements.lock requirements-build.lock
RUN := .venv/.run-installed
DEV := .venv/.dev-installed

.PHONY: run test test-all lint format bench load targets peers bench-faults instructions faults simulate mutations sbom audit evidence model reference golden lock clean help

run: $(RUN)  ## install and start the demo: a generated portfolio, a few drawdowns explained, /docs left open
	.venv/bin/decision-service demo

test: $(DEV)  ## the fast tests, on two processes
	.venv/bin/python -m pytest -m "not slow" -n 2 --dist worksteal

test-all: $(DEV)  ## every test, the slow ones too
	.venv/bin/python -m pytest

lint: $(DEV)  ## ruff, mypy, and hadolint over the Dockerfile
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/hadolint Dockerfile

format: $(DEV)  ## let ruff put the code in order
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: $(DEV)  ## decisions per second of one worker beside a bare ASGI app
	.venv/bin/python benchmarks/load/run.py saturation $(ARGS)

load: $(DEV)  ## a load test: WORKLOAD=steady, saturation, ramp, mixed, customers ... (ARGS="--json FILE --html FILE")
	.venv/bin/python benchmarks/load/run.py $(or $(WORKLOAD),steady) $(ARGS)

targets: $(DEV)  ## every target of speed as a ratio within one run (20 minutes on a machine that does nothing else)
	.venv/bin/python benchmarks/load/run.py targets $(ARGS)

instructions: $(DEV)  ## CPU instructions per decision, counted by callgrind (minutes; needs valgrind): no noise
	.venv/bin/python benchmarks/instructions.py $(if $(AGAINST),--against $(AGAINST))

peers: $(DEV)  ## beside what others would use: the usual stack, Feast, rule engines, tree libraries (PART=stack|feast|rules|score)
	.venv/bin/python benchmarks/peers/run.py $(or $(PART),all) $(if $(QUICK),--quick) $(ARGS)

bench-faults: $(DEV)  ## what is lost, answered twice or late under kills, power loss and overload (an hour; QUICK=1: minutes)
	.venv/bin/python benchmarks/faults/run.py $(if $(QUICK),--quick)

faults: $(DEV)  ## every test of the fault catalogue, slow ones too; writes docs/faults.md
	.venv/bin/python -m pytest -m fault --fault-report docs/faults.md

simulate: $(DEV)  ## 100,000 simulated histories of faults, on two processes (a few minutes)
	.venv/bin/python -m pytest -q -n 2 --dist worksteal tests/simulation -k "breaks_an_invariant and not further"

mutations: $(DEV)  ## take away one safety guard at a time: the tests must notice
	.venv/bin/python tests/faults/mutations.py

sbom: $(RUN)  ## what the lock pins, as a CycloneDX bill of materials: sbom.cdx.json
	.venv/bin/python -m decision_service.bill_of_materials --lock requirements.lock --out sbom.cdx.json

audit: $(DEV)  ## known vulnerabilities of the locked packages (osv.dev); skipped without network
	.venv/bin/python tests/project/audit_lock.py requirements.lock requirements-build.lock requirements-dev.lock

evidence: $(DEV)  ## what the scorecards find, beside published results (minutes; data in ../shared/data)
	.venv/bin/python benchmarks/evidence/collect.py
	.venv/bin/python tests/project/readme_tables.py

model: $(DEV)  ## train the shipped scorecard again from the generated portfolio
	.venv/bin/decision-service train --config models/behaviour/train.yaml

golden: $(DEV)  ## make tests/archive/golden.zip again, after a meant change of decisions is declared in the changelog
	.venv/bin/python tests/archive/make_golden.py

reference: $(DEV)  ## write docs/features.md, docs/language.md, the JSON Schemas and the README's tables again
	.venv/bin/decision-service features reference
	.venv/bin/decision-service rules reference
	.venv/bin/decision-service features schema features --out src/decision_service/schemas/features.schema.json
	.venv/bin/decision-service features schema attributes --out src/decision_service/schemas/attributes.schema.json
	for name in rules constants policy case; do \
	    .venv/bin/decision-service rules schema $$name --out src/decision_service/schemas/$$name.schema.json; \
	done
	.venv/bin/python tests/project/readme_tables.py

lock:  ## resolve the lock files anew from pyproject.toml (needs uv)
	$(UV_COMPILE) --all-extras pyproject.toml requirements-build.in -o requirements-dev.lock
	$(UV_COMPILE) -c requirements-dev.lock --extra offline --extra report pyproject.toml -o requirements.lock
	$(UV_COMPILE) -c requirements-dev.lock requirements-build.in -o requirements-build.lock
	$(UV_COMPILE) benchmarks/peers/feast-requirements.in -o benchmarks/peers/feast-requirements.lock

clean:  ## remove .venv and every cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# --- the virtual environment ------------------------------------------------------------------------------------

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is needed (or say which: make PYTHON=python3.12)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

$(RUN): $(RUN_LOCKS) pyproject.toml | .venv/bin/python
	@echo "filling .venv from $(RUN_LOCKS) ..." >&2
	$(PIP_INSTALL) --require-hashes $(addprefix -r ,$(RUN_LOCKS))
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock pyproject.toml | .venv/bin/python
	@echo "filling .venv from requirements-dev.lock ..." >&2
	$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(RUN)
