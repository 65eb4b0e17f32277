# `make help` says what there is. SCALE: smoke, cpu (the default), gpu, paper. DATASET: a name from config/config.yaml, or a folder.
SCALE ?= cpu
DATASET ?=
CORES ?= all
VENV := .venv
# The environment first on the path, so that the rules' `python` is this one.
ENVIRONMENT := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" PYTHONPATH=
# One --config for both: a second one would replace the first.
# The same for `python -m pipeline`.
OPTIONS := $(if $(filter-out cpu,$(SCALE)),--scale $(SCALE)) $(if $(DATASET),--dataset '$(DATASET)')
SETTINGS := $(if $(filter-out cpu,$(SCALE))$(DATASET),--config scale=$(SCALE)$(if $(DATASET), 'dataset=$(DATASET)'))

.DEFAULT_GOAL := help
.PHONY: help setup test table2 all bench gpu

help: ## this text
	@echo "make setup                        the environment alone (.venv, from requirements.lock)"
	@echo "make table2 [SCALE=…] [DATASET=…] from meshes to reports/table2.csv; SCALE: smoke, cpu (default), gpu, paper"
	@echo "                                  DATASET: procedural (default), meshes, or the path of a folder of meshes"
	@echo "make all [SCALE=…] [DATASET=…]    every table and figure, the claims, and Snakemake's report in reports/report.html"
	@echo "make gpu [DATASET=…]              all that a machine with a GPU is for, of real meshes: docs/clusters.md"
	@echo "make test                         all tests"
	@echo "make bench                        speed of the hot paths, on a machine that does nothing else: benchmarks/README.md"

setup: $(VENV)/.complete ## the environment alone

$(VENV)/.complete: requirements.lock pyproject.toml .ci/environment
	@.ci/environment

test: $(VENV)/.complete ## all tests
	@$(ENVIRONMENT) OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist loadfile

table2: $(VENV)/.complete ## from meshes to reports/table2.csv
	@$(ENVIRONMENT) snakemake --cores $(CORES) $(SETTINGS) -- reports/table2.csv
	@$(ENVIRONMENT) python -m pipeline status $(OPTIONS) reports/table2.csv

all: $(VENV)/.complete ## every table and figure, the claims, and Snakemake's report
	@$(ENVIRONMENT) snakemake --cores $(CORES) $(SETTINGS) -- reports/all
	@$(ENVIRONMENT) python -m pipeline status $(OPTIONS) reports/all
	@$(ENVIRONMENT) snakemake --cores $(CORES) $(SETTINGS) --report reports/report.html -- reports/all

bench: $(VENV)/.complete ## speed of the hot paths
	@$(ENVIRONMENT) python -m benchmarks run $(BENCH_FLAGS)

gpu: $(VENV)/.complete ## all that a machine with a GPU is for; GPU_FLAGS: python -m pipeline gpu --help
	@$(ENVIRONMENT) python -m pipeline gpu --cores $(CORES) $(OPTIONS) $(GPU_FLAGS)
