# `make help` lists the targets. PYTHON=... chooses the Python (3.11 or newer) that .venv is made with.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help setup test lint types format demo evaluate evaluate-full ablations bench clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(STAMP) ## Install what is missing: PostgreSQL and Q3C from Debian, msacat and its packages in .venv

$(STAMP): pyproject.toml constraints.txt .ci/install_debian .ci/install_torch.py
	@PYTHON=$(PYTHON) .ci/install_debian
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "msacat needs Python 3.11 or newer; make PYTHON=python3.11 setup")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing Python packages into .venv (once; a few minutes)." >&2
	@$(BIN)/python -m pip install --quiet wheel
	@$(BIN)/python .ci/install_torch.py
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

test: setup ## Run the whole suite, on temporary PostgreSQL servers of its own
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

demo: setup ## Real stars and a simulated sky, from survey files to enriched tables (under 10 minutes)
	$(BIN)/msacat demo

bench: setup ## Time every stage beside what one would use instead, into benchmarks/results (half an hour)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/run_benchmarks.py
	$(BIN)/python benchmarks/profile_stages.py
	$(BIN)/python benchmarks/speed_page.py
	$(BIN)/python benchmarks/scale_page.py

evaluate: setup ## Repeat the tables of docs/accuracy.md from the stored weights (an hour); M67=FILE adds the cluster M67
	$(BIN)/python benchmarks/accuracy.py $(if $(M67),--m67 $(M67))

evaluate-full: setup ## Train and judge everything that is not recorded yet (many hours; goes on where it was interrupted)
	$(BIN)/python benchmarks/accuracy.py --full $(if $(M67),--m67 $(M67))

ablations: setup ## Train and judge every arm of docs/ablations.md that is not recorded yet (two hours)
	$(BIN)/python benchmarks/ablations/run.py
	$(BIN)/python benchmarks/ablations/page.py

lint: setup ## Check style and which part may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	.ci/link_source
	cd build/source && ../../$(BIN)/lint-imports --no-logo --no-cache --config ../../pyproject.toml

types: setup ## Check type hints
	.ci/link_source
	MYPYPATH=build/source $(BIN)/mypy -p msacat --ignore-missing-imports

format: setup ## Format the source
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove .venv and built files; no database is touched
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
