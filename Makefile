# Targets are files where they can be; logic lives in `btcml VERB`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

SYMBOL ?= BTCUSDT
INTERVAL ?= 5m
DAYS ?= 1095
END ?=
SOURCE ?= auto
PYTHON ?= python3
REPORT_LANGUAGE ?= en
BTCML_HOME ?= .btcml
SOAK_SHARE ?= 1
OSV ?=
UPGRADE ?=
# A misspelt parameter would be ignored, and the default used in its place. The environment is not judged.
PARAMETER_NAMES := SYMBOL INTERVAL DAYS END SOURCE REPORT_LANGUAGE PYTHON BTCML_HOME SOAK_SHARE OSV UPGRADE
UNKNOWN := $(foreach name,$(filter-out $(PARAMETER_NAMES),$(.VARIABLES)),$(if $(filter command,$(origin $(name))),$(name)))
ifneq ($(strip $(UNKNOWN)),)
SUGGESTION := $(shell $(PYTHON) -c 'import difflib, sys; close = lambda name: difflib.get_close_matches(name.upper(), "$(PARAMETER_NAMES)".split(), 1); \
  print(*(f"{name} is not a parameter: did you mean {close(name)[0]}?" for name in sys.argv[1:] if close(name)))' $(UNKNOWN))
$(if $(SUGGESTION),$(error btcml: $(SUGGESTION)))
endif
override BTCML_HOME := $(value BTCML_HOME)
export BTCML_HOME
# A set-up that forbids bytecode, as many images do, would compile every package again in each of many processes.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
READY := .venv/ready
CODE := $(shell find btcml notebooks reports/template data_contracts -type f \( -name '*.py' -o -name '*.ipynb' -o -path 'reports/*' -o -name '*.yaml' \) -not -path '*/__pycache__/*' -not -path '*/.ipynb_checkpoints/*')
# What decides the content of a snapshot.
FETCHING := $(filter btcml/market/% btcml/store/% btcml/candles.py btcml/continuity.py btcml/contract.py btcml/pipeline/ingest.py data_contracts/%,$(CODE))
# A value as one word of the shell, whatever it holds: a path may have spaces, quotes, $, & and #.
quoted = '$(subst ','\'',$(value $(1)))'
# Only parameters that the user gave: the others come from the settings (environment or .env) and files.
given = $(if $(filter-out file,$(origin $(1))),--$(2) $(call quoted,$(1)))
GIVEN = $(call given,SYMBOL,symbol) $(call given,INTERVAL,interval) $(call given,DAYS,days) $(call given,SOURCE,source)
option = --$(2) $(call quoted,$(1))
PARAMETERS = $(call given,SYMBOL,symbol) $(call option,INTERVAL,interval) $(call option,DAYS,days) $(call option,END,end) $(call option,SOURCE,source)
TRANSLATED = $(if $(filter-out en,$(value REPORT_LANGUAGE)),$(call option,REPORT_LANGUAGE,language))

.PHONY: help report refresh verify test test-all test-tools soak check lab api dashboard up bench bench-scale bench-service bench-peers lock env docs pictures sbom audit wheel clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo 'Parameters: SYMBOL=$(SYMBOL) INTERVAL=$(INTERVAL) DAYS=$(DAYS) END=$(END) SOURCE=$(SOURCE) REPORT_LANGUAGE=$(REPORT_LANGUAGE)'

# ---- set-up: a virtual environment from the hashed lock, once ----
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'btcml: needs Python 3.11 or newer: make PYTHON=python3.12' >&2; exit 2; }
	@echo 'Setting up .venv (once) ...' >&2
	@$(PYTHON) -m venv .venv
	@awk '/^[^ ]/ {on = /^uv==/} on' requirements.lock > .venv/uv.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	@$(BIN)/uv pip sync --quiet --system-certs --require-hashes --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --no-build-isolation --no-deps --editable .
	@touch $@

# The tool of the data contract standard needs other versions than btcml: a separate environment.
.venv/contract/ready: data_contracts/tool.lock | $(READY)
	@$(PYTHON) -m venv .venv/contract
	@$(BIN)/uv pip sync --quiet --system-certs --require-hashes --python .venv/contract/bin/python data_contracts/tool.lock
	@touch $@

# The other libraries of the benchmark, and XGBoost, have an environment of their own.
.venv/peers/ready: tests/bench/peers.lock | $(READY)
	@$(PYTHON) -m venv .venv/peers
	@$(BIN)/uv pip sync --quiet --system-certs --require-hashes --python .venv/peers/bin/python tests/bench/peers.lock
	@touch $@

# ---- the report ----
# Every parameter, and the content of a file or folder, is in the name of the plan; the market and the end are in the plan.
RUN :=
ifneq ($(filter report verify,$(MAKECMDGOALS)),)
PLAN := build/plans/$(firstword $(shell { printf '%s\n' $(PARAMETERS) $(TRANSLATED); [ ! -e $(call quoted,SOURCE) ] || \
  find -L $(call quoted,SOURCE) -maxdepth 1 -type f -exec cksum {} + | sort; } | cksum)).mk
-include $(PLAN)

ifneq ($(filter report,$(MAKECMDGOALS)),)
$(PLAN): | $(READY)
	@mkdir -p $(@D)
	@$(BIN)/btcml report $(call option,REPORT_LANGUAGE,language) $(PARAMETERS) --plan $@
endif
endif

ifneq ($(RUN),)
report: $(RUN)/pages/index.html ## the report as HTML pages, from candles to verdict
	@echo 'report: $<'

verify: | $(READY) ## build the report again in a clean folder and compare every byte with the pages as they are
	@$(BIN)/btcml verify '$(RUN)'

# A changed notebook or chart makes pages again from the snapshot that is there; candles are fetched for a new plan only.
$(RUN)/snapshot/snapshot.json: $(PLAN) $(FETCHING) | $(READY)
	@$(BIN)/btcml report --from-plan $(PLAN) --snapshot
	@touch $@

$(RUN)/pages/index.html: $(RUN)/snapshot/snapshot.json $(CODE) requirements.lock | $(READY)
	@$(BIN)/btcml report --from-plan $(PLAN)
	@touch $@
else # report: no plan could be made, and btcml has printed the reason; verify: there is none
report:
	@exit 2
verify:
	@echo 'btcml: no report with these parameters has been built: make report with them first' >&2; exit 2
endif

refresh: ## delete stored sources and ends, so that the next report uses the newest candles
	@rm -rf build/plans

# ---- tests: they wait for servers and browsers, so that three processes fill two processors ----
test: $(READY) ## all tests that need nothing but Python packages
	@$(BIN)/pytest -q -n 3
	@echo 'left out: browser and contract tool (make test-all) and the long tests (make soak); skipped: see the reasons above'

test-all: $(READY) .venv/contract/ready ## the same, the browser (needs chromium) and the data contract's tool
	@$(BIN)/pytest -q -n 3 -m 'not soak'
	@echo 'left out: the long tests (make soak); skipped: see the reasons above'

test-tools: $(READY) .venv/contract/ready ## only what test-all adds to test
	@$(BIN)/pytest -q -n 3 --dist loadgroup -m '(browser or tools) and not soak'

soak: $(READY) ## the long tests; SOAK_SHARE=0.1 draws a tenth of them
	@SOAK_SHARE=$(SOAK_SHARE) $(BIN)/pytest -q -n 2 --dist worksteal -m soak -o faulthandler_timeout=14400

check: $(READY) ## lint, format, types, layers, notebooks without outputs
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/nbstripout --verify --keep-id $$(git ls-files '*.ipynb')

bench: $(READY) ## benchmarks, as ratios within one run
	@$(BIN)/python tests/bench

bench-scale: $(READY) ## features and one fit on 4.35 million candles
	@$(BIN)/python tests/bench/scale.py

bench-service: $(READY) ## latency and throughput of the service on one core, and a training on DAYS of candles
	@$(BIN)/python tests/bench/service_speed.py '$(DAYS)'

bench-peers: $(READY) .venv/peers/ready ## mlforecast, ML Crypto and bitcoin-ml on the same rows, in an environment of their own
	@PYTHONPATH=. .venv/peers/bin/python tests/bench/peers.py $(if $(filter-out auto simulated binance,$(SOURCE)),$(call quoted,SOURCE))

# ---- notebooks and services ----
lab: $(READY) ## JupyterLab with the notebooks, ready to run
	@$(BIN)/btcml lab $(GIVEN) $(call given,END,end)

api: $(READY) ## the HTTP service
	@$(BIN)/btcml api

dashboard: $(READY) ## the dashboard, and the API if none answers
	@$(BIN)/btcml dashboard

up: $(READY) ## API, scheduler and dashboard together, without Docker
	@$(BIN)/btcml up $(GIVEN)

# ---- maintenance ----
LOCK = $(BIN)/uv pip compile --quiet --system-certs --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate pyproject.toml
lock: $(READY) ## resolve the dependencies into the lock files; UPGRADE=--upgrade takes the newest versions
	@$(LOCK) $(UPGRADE) --all-extras --group dev -o requirements.lock > /dev/null
	@$(LOCK) -c requirements.lock --extra alerts --extra record --extra report --extra dashboard -o requirements.run.lock > /dev/null
	@$(LOCK) -c requirements.lock --group bench -o tests/bench/peers.lock > /dev/null

env: ## write .env with fresh secrets, once, for docker compose
	@if [ -e .env ]; then echo '.env exists already: delete it for new secrets' >&2; exit 2; fi
	@umask 177; awk '/^[A-Z_]+=$$/ {c = "head -c 24 /dev/urandom | base64 | tr +/ -_"; c | getline s; close(c); $$0 = $$0 s} {print}' \
	  .env.example > .env

docs: $(READY) ## the reference from the code, and the documents as a site in build/docs
	@$(BIN)/python -m tools.reference
	@$(BIN)/sphinx-build -q -W -b html -d build/doctrees docs build/docs
	@echo 'docs: build/docs/index.html'

pictures: $(READY) ## pictures of report and dashboard for the README (needs chromium)
	@$(BIN)/python tools/pictures.py

sbom: $(READY) ## bill of materials (CycloneDX) and list of licences in build
	@mkdir -p build
	@$(BIN)/cyclonedx-py requirements requirements.run.lock --output-reproducible --output-file build/sbom.cdx.json 2> /dev/null
	@$(BIN)/pip-licenses --from=mixed --format=markdown --output-file build/LICENSES.md \
	  --packages $$(sed -nE 's/^([A-Za-z0-9._-]+)==.*/\1/p' requirements.run.lock) > /dev/null
	@echo 'sbom: build/sbom.cdx.json, build/LICENSES.md'

audit: $(READY) ## known vulnerabilities of the locked packages; offline with OSV=all.zip
	@OSV='$(OSV)' $(BIN)/python tools/audit.py

wheel: $(READY) ## the package as a wheel and a source archive in dist
	@$(BIN)/python -m hatchling build
	@ls dist

clean: ## delete what was built, except the database and the environment
	@rm -rf reports/build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
