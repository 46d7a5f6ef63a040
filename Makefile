# Each target does its own set-up: a fresh clone needs Python 3.11+ and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test test-long coverage lint lock soak campaigns clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Patchline needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install
	$(BIN)/python -m demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

# What a developer runs at each change: the same result at every run.
test: lint
	$(BIN)/pytest -m "not long" -n 2 --dist loadfile --durations=15

# Which branches the tests reach; a third slower than without.
coverage: install
	$(BIN)/pytest -m "not long" -n 2 --dist loadfile --cov --cov-report=term

# What takes longer: fault campaigns, the demo, an environment without torch, older processors; and the properties
# once more, looking for examples that nobody has thought of.
test-long: install
	$(BIN)/pytest -m long -n 2 --dist loadfile --durations=15
	$(BIN)/pytest -m "hypothesis and not long" -n 2 --dist loadfile --hypothesis-profile=random

soak: install
	$(BIN)/python -m benchmarks.soak

campaigns: install
	$(BIN)/python -m benchmarks.campaigns

# What a station installs, with the hash of every file that it may be: `pip install --require-hashes -r`. torch has no
# place in it: its builds for CPUs come from elsewhere than its hashes.
lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet --disable-pip-version-check pip-tools==7.6.2
	$(VENV)/lock/bin/pip-compile --quiet --no-header --generate-hashes --strip-extras --allow-unsafe \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --build-deps-for wheel \
	  --constraint constraints.txt --output-file requirements/station.txt pyproject.toml

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage .import_linter_cache
