# Set-up, tests and checks; `make help` lists the targets.
# Everything is installed into .venv here; nothing needs root.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTENSION := sdk/_runtime.abi3.so
EXTRAS := torch,tflite,emulate,flash,measure,ppk2,sharing,compress,experiment,parquet,report,data,demo,dev
JOBS ?= 2
# Test processes share the cores: one thread each for numpy and torch.
TEST_ENV := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
FUZZ_SECONDS ?= 60

# The interpreter that makes .venv: the first of these that is 3.11 or newer.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; \
	done)

C_SOURCES := $(wildcard runtime_c/src/*.c runtime_c/src/*.h runtime_c/include/*.h)
C_FILES = $(shell git ls-files -co --exclude-standard '*.c' '*.h')

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(STAMP) $(EXTENSION) ## Make .venv with everything in it; repeats only what has changed.

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "zeroskip needs Python 3.11 or newer; put it on PATH or run: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml setup.py constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt setuptools cffi
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'
	@touch $@

# The editable install imports the extension from sdk/; a change of the C sources renews it.
$(EXTENSION): $(C_SOURCES) runtime_c/host/build_ffi.py setup.py | $(STAMP)
	$(BIN)/python -W ignore::UserWarning setup.py -q build_ext --inplace
	@touch $@

.PHONY: demo
demo: setup ## Train, prune, convert and run a digits CNN on three emulated boards.
	$(BIN)/python examples/digits/demo.py

.PHONY: test
test: setup ## Run all tests; what is skipped for want of a tool is listed at the end.
	$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: check
check: static coverage ## Everything that must hold: formatting, types, C warnings, tests, coverage.

.PHONY: static
static: setup ## The part of `check` that runs no test.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/typeview.py
	$(BIN)/mypy
	@echo clang-format --dry-run -Werror
	@$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	$(BIN)/python tools/check_c.py --jobs $(JOBS)
	$(BIN)/python tools/sizes.py --check

.PHONY: coverage
coverage: setup ## Run the tests with line coverage of Python and C; under 90 % is a failure.
	$(TEST_ENV) $(BIN)/python tools/cover.py --minimum 90 -- -n $(JOBS) --dist worksteal

.PHONY: format
format: setup ## Rewrite Python and C sources in the project's format.
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

.PHONY: fuzz
fuzz: setup ## Fuzz the container loader for FUZZ_SECONDS (60) with libFuzzer; needs clang.
	$(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS)

.PHONY: sizes
sizes: setup ## Measure code and stack sizes of the runtime; writes benchmarks/sizes.md and .csv.
	$(BIN)/python tools/sizes.py
	$(BIN)/python tools/readme_figures.py

.PHONY: bench
bench: setup ## Estimate the MLPerf Tiny models of ZEROSKIP_DATA; writes benchmarks/mlperf_tiny.md.
	$(BIN)/python benchmarks/mlperf_tiny.py --write
	$(BIN)/python tools/readme_figures.py

.PHONY: bench-codecs
bench-codecs: setup ## Bytes and seconds of the weight codecs; writes benchmarks/codecs.md.
	$(TEST_ENV) $(BIN)/python benchmarks/codecs.py --write

.PHONY: bench-decode
bench-decode: setup ## Cycles per decoded weight of every codec, emulated; writes benchmarks/decode.md.
	$(BIN)/python benchmarks/decode.py --write

.PHONY: bench-host
bench-host: setup ## Speed of the portable kernels beside tflite-runtime: benchmarks/host.md.
	$(TEST_ENV) $(BIN)/python benchmarks/host.py --write

.PHONY: bench-eie
bench-eie: setup ## The simulated EIE against its paper: benchmarks/eie.md.
	$(TEST_ENV) $(BIN)/python benchmarks/eie.py --write

.PHONY: bench-timing
bench-timing: setup ## The cycle models against programs in ZEROSKIP_VALIDATION: benchmarks/timing_validation.md.
	$(TEST_ENV) $(BIN)/python benchmarks/timing_validation.py --write

.PHONY: bench-kernels
bench-kernels: setup ## Cycles of single layers by sparsity, emulated: benchmarks/kernel_grid.md, .svg.
	$(BIN)/python benchmarks/kernel_grid.py --write

.PHONY: bench-words
bench-words: setup ## Zero activations skipped a word at a time: benchmarks/word_skipping.md.
	$(BIN)/python benchmarks/word_skipping.py --write

.PHONY: bench-compression
bench-compression: setup ## Train, prune, share and encode LeNets and ResNet-8 (hours): benchmarks/compression.md.
	$(BIN)/python benchmarks/compression.py all
	$(BIN)/python benchmarks/compression.py table --write

.PHONY: costs
costs: setup ## Refit the planner's costs to emulated layers: converters/costs.toml, benchmarks/costs.md.
	$(BIN)/python benchmarks/fit_costs.py --write

.PHONY: clean
clean: ## Remove what was built; .venv stays (delete it by hand for a fresh start).
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	rm -f $(EXTENSION)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
