# Every target sets up what it needs; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
RUN := PYTHONWARNINGS=ignore $(BIN)/python -m monai.bundle run
DEMO := output/demo
# of pytest; each process has one thread
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

.PHONY: setup demo test test-all test-min package wheel label-env test-label page runtime-env runtime-dicom style lint
.DEFAULT_GOAL := setup

setup: .venv/installed

.venv/installed: requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (torch is large: a few minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[test,lint]"
	@touch $@

# train, evaluate and infer on generated images, and write the report: scripts/demo.yaml
demo: setup
	$(BIN)/python scripts/make_demo_data.py $(DEMO)/data
	PYTHONPATH=scripts $(RUN) --config_file scripts/demo.yaml --folder $(DEMO)

# in several processes of one thread each, a file of tests in one of them
test: setup style
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL)

# the slow ones too, and those that need the extras
test-all: setup lint .venv/extras
	UNETV2_FUZZ=1000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "" $(PARALLEL)

.venv/extras: .venv/installed
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[itk,tracking]"
	@touch $@

# dist/*.zip, one of each of bundle/entries; of your own weights: make package CHECKPOINT=output/models/model.pt
package: setup
	$(BIN)/python scripts/package_bundle.py $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))

# dist/*.whl: package, bundle with weights, scripts and the command unetv2; pip install dist/*.whl
wheel: setup
	@rm -rf build/lib
	$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir dist .

# the lowest versions that requirements.txt allows, in an environment of their own
test-min: .venv-min/installed
	OMP_NUM_THREADS=1 .venv-min/bin/python -m pytest $(PARALLEL)

.venv-min/installed: requirements.txt pyproject.toml
	@test -x .venv-min/bin/python || $(PYTHON) -m venv .venv-min
	@sed -n 's/>=/==/p' requirements.txt > .venv-min/lowest.txt
	@.venv-min/bin/python -m pip install -qq --disable-pip-version-check -r .venv-min/lowest.txt -e ".[test]"
	@touch $@

# MONAI Label, whose dependencies need an environment of their own
label-env: .venv-label/installed

.venv-label/installed: requirements.txt scripts/label_start/requirements.txt
	@test -x .venv-label/bin/python || $(PYTHON) -m venv .venv-label
	@echo "Installing MONAI Label into .venv-label (a few minutes the first time)"
	@.venv-label/bin/python -m pip install -qq --disable-pip-version-check -r requirements.txt -c scripts/label_start/requirements.txt
	@.venv-label/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r scripts/label_start/requirements.txt -e .
	@touch $@

# with the page in Chromium, which is installed where that can be done without asking; else those tests skip
test-label: label-env
	@.venv-label/bin/python -m pip install -qq --disable-pip-version-check "pytest>=8" "selenium>=4.20"
	@command -v chromedriver >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get install -qq -y chromium chromium-driver >/dev/null; } || echo "No Chromium: tests of the page skip."
	.venv-label/bin/python -m pytest tests/scripts/label

# types and modules of that page; node alone, no browser. TypeScript comes from npm
page: node_modules/.package-lock.json
	@npm run --silent types
	@npm test --silent

node_modules/.package-lock.json: package-lock.json
	@npm ci --silent --no-audit --no-fund
	@touch $@

# scripts/segment.py alone: no torch, no MONAI; without pip, which is not needed again, and without OpenVINO's telemetry
runtime-env: .venv-runtime/installed

.venv-runtime/installed: requirements-runtime.txt
	@$(PYTHON) -m venv --clear .venv-runtime
	@.venv-runtime/bin/python -m pip install -qq --disable-pip-version-check -r requirements-runtime.txt
	@.venv-runtime/bin/python -m pip uninstall -qq -y --disable-pip-version-check openvino-telemetry setuptools pip
	@touch $@

# the same with DICOM, about 100 MB more
runtime-dicom: runtime-env
	@$(PYTHON) -m pip --python .venv-runtime/bin/python install -qq --disable-pip-version-check -r requirements-runtime-dicom.txt

style: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/rumdl check --no-cache .

# style, the label page, secrets in tracked files (hashes and encoded masks look like some),
# known vulnerabilities of what is installed (where their database answers)
lint: style page
	@git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --exclude-files '^docs/results/|^package-lock.json|^tests/scripts/labels/'
	@$(BIN)/pip-audit --local --progress-spinner off > .venv/audit.txt 2>&1 || ! grep "known vulnerabilit" .venv/audit.txt
