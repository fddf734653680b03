# The few commands of this project; `make` or `make help` lists them.
PYTHON ?= python
.DEFAULT_GOAL := help
.PHONY: help set-up repro smoke test lint report

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

set-up: ## install the package with its test tools into the active environment
	$(PYTHON) -m pip install -c constraints.txt -e '.[test]'

repro: ## run what is out of date, photographs to report
	dvc repro

smoke: ## run the whole graph with toy budgets, as an experiment
	dvc exp run $$(charreg profile smoke)

test: ## run the tests
	$(PYTHON) -m pytest

lint: ## check format, style and types
	ruff format --check .
	ruff check .
	mypy

report: ## run what the report needs and say where it is
	dvc repro report
	@echo reports/report.md
