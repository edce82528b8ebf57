# Start with `make demo` (or `make light`) and `make test`. PYTHON is the interpreter that .venv is created with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LIGHT := $(VENV)/.light
# What is enough for programs that need only what `make light` installs.
READY = $(if $(wildcard $(LIGHT)),$(LIGHT),$(INSTALLED))
DEMO := results/sample/sample/optimum
RUNTIME_VENV := .venv-tflite-runtime
LOWEST_VENV := .venv-lowest
LIBRARY_VENV := .venv-library
DOCS_VENV := .venv-docs

.PHONY: demo light backbones check-device test lint dry-runs format models test-library test-tflite-runtime test-lowest \
	test-kills test-slurm benchmark performance docs lock clean
.DEFAULT_GOAL := demo

# The whole workflow on the sample. It makes the CPU model, because there may be no compiler here.
demo: $(INSTALLED)
	@echo "Running the workflow on the sample (about a minute the first time) ..."
	@PATH="$(abspath $(BIN)):$$PATH" snakemake --cores all \
		--config dataset=sample backbone=sample device=cpu \
		-- $(DEMO)/report.html $(DEMO)/confusion_matrix.png

# The workflow without TensorFlow and other large packages that few backbones need.
light: $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(LIGHT))
	@echo "Ready. Once per shell: source $(BIN)/activate"

backbones: $(READY)
	@$(BIN)/python scripts/show_backbones.py

# Says whether an Edge TPU is attached to this machine and can be used, and if not, why.
check-device: $(READY)
	@$(BIN)/python scripts/check_device.py

# Two test files at a time, because tests spend most of their time waiting for programs to start.
test: $(INSTALLED)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile

# With the oldest versions that pyproject.toml allows, including Snakemake's.
test-lowest: $(LOWEST_VENV)/.installed
	PATH="$(abspath $(LOWEST_VENV))/bin:$$PATH" $(LOWEST_VENV)/bin/python -m pytest \
		tests/workflow/test_run.py tests/workflow/test_float_networks.py

# Kills a run, or one of its jobs, at this many random moments, and says what was running each time.
KILLS ?= 30
test-kills: $(INSTALLED)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest --kills $(KILLS) -rP \
		tests/workflow/test_kills.py -k random_moments

# Installs Slurm (Debian, as root), starts it on one node, with and without accounting, runs the tests
# on it and stops it.
test-slurm: $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[slurm]"
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest --slurm tests/slurm

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# Snakemake gives the scripts the name `snakemake`; ruff finds other names that are not defined.
	$(BIN)/mypy --disable-error-code name-defined --scripts-are-modules scripts/*.py
	$(BIN)/snakefmt --check Snakefile workflow
	PATH="$(abspath $(BIN)):$$PATH" snakemake --lint

# Shows what a run would do for every backbone in the catalogue.
dry-runs: $(INSTALLED)
	@for name in `sed -n 's/^\([a-z][^ ]*\):$$/\1/p' workflow/backbones.yaml`; do \
		echo "$$name"; \
		PATH="$(abspath $(BIN)):$$PATH" snakemake --cores 1 --dry-run --quiet all \
			--config backbone=$$name device=cpu -- retrained_model_edgetpu.tflite || exit 1; \
	done

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

# Small models for the tests of machines without TensorFlow, in test-models.
models: $(INSTALLED)
	$(BIN)/python -m tests.make_models test-models

# The tests of modules that need nothing but the library's own packages, in an environment that has no
# others. The models come from `make models`, here or on another machine.
LIBRARY_TESTS := archive calibration checks classify_image devices files folds head \
	identity_cache imprinting interpreter job locking manifest metadata model package package_links \
	photos predictions preprocessing raw_input scoring splits truncate yaml_syntax
test-library: $(LIBRARY_VENV)/.installed
	@test -e test-models/classifier.tflite || { \
		echo "There are no models in test-models. Make them first: make models"; exit 1; }
	EDGETPU_RETRAIN_MADE="$(CURDIR)/test-models" $(LIBRARY_VENV)/bin/python -m pytest \
		$(LIBRARY_TESTS:%=tests/unit/test_%.py)

# The last tflite-runtime needs Python 3.11 and numpy 1, so it has an environment of its own. The
# models to test it with are made by TensorFlow in the usual one.
test-tflite-runtime: $(INSTALLED) $(RUNTIME_VENV)/.installed
	$(BIN)/python -m tests.make_models $(RUNTIME_VENV)/made
	EDGETPU_RETRAIN_MADE="$(abspath $(RUNTIME_VENV))/made" $(RUNTIME_VENV)/bin/python -m pytest \
		tests/unit/test_interpreter.py tests/unit/test_embeddings.py tests/unit/test_classify_image.py

benchmark: $(INSTALLED)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benchmarks/benchmark.py $(BENCHMARK)

# Compares the speed of embedding with the last release. It prints figures; it is not a test.
performance: $(INSTALLED)
	@$(BIN)/python benchmarks/benchmark.py --quick --rounds 3 --compare benchmarks/release.json

# Builds docs/ into site/, with warnings as errors. MkDocs reads the project's code without importing
# it, so its environment does not need the project's packages.
docs: $(DOCS_VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet
	@echo "Built the documentation: open site/index.html"

# Pins every package in requirements.txt to the newest version that pyproject.toml allows, and
# generates the rules' conda environments from it.
lock: $(INSTALLED)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
		--extra workflow --extra quantize --extra label --extra report --extra tensorflow --extra dev \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		--upgrade pyproject.toml --output-file requirements.txt
	$(BIN)/python workflow/envs/generate.py

clean:
	rm -rf .snakemake logs resources results retrained_model*.tflite label_map.txt report.html \
		bundle bundle.zip frigate

define create_venv
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "Python 3.11, 3.12 or 3.13 is needed (TensorFlow has no builds for others), but"; \
		echo "$(PYTHON) is `$(PYTHON) --version`. Choose another: make PYTHON=python3.12 demo"; \
		exit 1; }
	@echo "Creating $(VENV) with `$(PYTHON) --version` (a few seconds) ..."
	@$(PYTHON) -m venv $(VENV)
endef

$(INSTALLED): requirements.txt pyproject.toml
	$(create_venv)
	@echo "Installing `grep -c == requirements.txt` packages (2 GB; about 3 minutes, once) ..."
	@$(BIN)/pip install -qq --disable-pip-version-check -r requirements.txt
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps -e .
	@rm -f $(LIGHT)
	@touch $@

# --no-compile leaves it to Python to compile the modules that are used: a quarter of all.
$(LIGHT): requirements.txt pyproject.toml
	$(create_venv)
	@echo "Installing the workflow without TensorFlow (400 MB; about a minute, once) ..."
	@$(BIN)/pip install -qq --disable-pip-version-check --no-compile -c requirements.txt -e ".[workflow]"
	@touch $@

$(DOCS_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], \
		sep="\n")' > $(DOCS_VENV)/requirements.txt
	$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check -r $(DOCS_VENV)/requirements.txt
	@touch $@

$(LOWEST_VENV)/.installed: pyproject.toml $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv venv --quiet --clear --python "`$(BIN)/python -c 'import sys; print(sys.executable)'`" \
		$(LOWEST_VENV)
	$(BIN)/uv pip install --quiet --python $(LOWEST_VENV)/bin/python --resolution lowest-direct \
		-e ".[workflow,quantize,label,report,tensorflow]" "pytest>=8"
	@touch $@

# What an earlier build left in build/ would be installed, too.
$(LIBRARY_VENV)/.installed: pyproject.toml
	rm -rf build
	$(PYTHON) -m venv $(LIBRARY_VENV)
	$(LIBRARY_VENV)/bin/pip install --quiet --disable-pip-version-check . pytest pyyaml "setuptools>=77"
	@touch $@

$(RUNTIME_VENV)/.installed: Makefile
	python3.11 -m venv $(RUNTIME_VENV)
	$(RUNTIME_VENV)/bin/pip install --quiet --disable-pip-version-check \
		"tflite-runtime==2.14.0" "numpy<2" "pillow>=11" imagehash pillow-heif pytest pyyaml \
		threadpoolctl tqdm
	$(RUNTIME_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
