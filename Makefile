# The few commands of this project; `make` or `make help` lists them.
PYTHON ?= python
.DEFAULT_GOAL := help
.PHONY: help set-up repro smoke test quick experiments lint check-lock report results

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

set-up: ## install the package with its test tools into the active environment
	$(PYTHON) -m pip install -c constraints.txt -e '.[test]'

repro: ## run what is out of date, photographs to report
	dvc repro

smoke: ## run the whole graph with toy budgets, as an experiment
	dvc exp run $$(charreg profile smoke)

test: ## run the tests
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

quick: ## the tests but for real DVC runs, several processes and kills, in one process
	$(PYTHON) -m pytest -m 'not long and not results and not dvc and not slow'

experiments: ## what experiments changed, and the distances of a method: make experiments METHOD=cr
	dvc exp show --only-changed --no-pager \
	    --drop '(?!reports/metrics/$(or $(METHOD),cr)\.json:\w+\.f)(reports|data|models|params)'

check-lock: ## does dvc.lock tell of this very code and these parameters?
	charreg check-lock

lint: ## check format, style and types
	ruff format --check .
	ruff check .
	mypy

report: ## run what the report needs and say where it is
	dvc repro report
	@echo reports/report.md

results: ## keep what a finished run found, of what Git may hold: make results NAME=bench
	@case "$(NAME)" in "" | *[!a-z0-9_-]*) \
	    echo "make results: found NAME '$(NAME)', wanted a folder's name of a-z, 0-9, _ and -, as NAME=bench"; exit 2;; esac
	rm -rf results/.$(NAME).partial-new
	mkdir -p results/.$(NAME).partial-new
	cp -r params.yaml dvc.lock reports/report.md reports/tables reports/pictures reports/figures reports/metrics \
	    reports/scores results/.$(NAME).partial-new/
	mkdir results/.$(NAME).partial-new/timings
	cd reports/training && find . -name timings.json | tar -cf - -T - | \
	    tar -xf - -C ../../results/.$(NAME).partial-new/timings
	if [ -f results/$(NAME)/README.md ]; then cp results/$(NAME)/README.md results/.$(NAME).partial-new/; fi
	rm -rf results/$(NAME)
	mv results/.$(NAME).partial-new results/$(NAME)
