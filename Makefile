# make accuracy: run the accuracy cases and write the report.
# make check, make test, make test-all: check the harness; what each leaves out: docs/testing.md.
# make bench: what the harness costs, beside a bare script and other tools (docs/benchmarks.md).
PYTHON ?= python3
VENV ?= .venv
# auto takes a real NPU where there is one, else the emulated one, and says which and why.
DEVICE ?= auto
# More options for pytest, for example ARGS="--tier smoke --numerics strict".
ARGS ?=

RUN = $(VENV)/bin/python
# Files stay whole: they share what is costly to make.
JOBS ?= 2
PARALLEL = -n $(JOBS) --dist loadfile
# Idle OpenMP threads that spin make several test processes on few cores many times slower.
check test test-all: export OMP_WAIT_POLICY = passive
# With it each of the many processes of tests and benchmarks would compile all of the harness anew.
bench check test test-all: export PYTHONDONTWRITEBYTECODE =
# A run needs neither linters nor what tests alone need.
lint check test test-all: TOOLS = --tests
# The stack under test: a torch_npu release as in 2.8.0.post4, installed, or auto (docs/install.md).
STACK ?= auto
# A folder made by `make bundle`, for a host without a network.
WHEELS ?=
EMULATOR = harness/devices/emulator/src

.PHONY: accuracy bench bundle check installed lint lock test test-all wheel

# Quick where nothing has changed.  It says what is large before it fetches it.
installed:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m harness.entry.install venv $(VENV) --stack "$(STACK)" --wheels "$(WHEELS)" $(TOOLS)

# All wheels for a host without a network; FOR_MACHINE=aarch64 FOR_PYTHON=3.11 for another kind.
BUNDLE ?= wheels
bundle:
	@$(PYTHON) -m harness.entry.install bundle $(BUNDLE) --stack "$(STACK)" \
		--machine "$(FOR_MACHINE)" --python "$(FOR_PYTHON)"

# The package, for another project's environment (docs/library.md).
DIST ?= dist
wheel:
	@$(PYTHON) -m harness.entry.install wheel $(DIST)

accuracy: installed
	$(RUN) -m harness sample-model
	$(RUN) -m harness device --device $(DEVICE)
	$(RUN) -m harness run --device $(DEVICE) --html=reports/accuracy.html \
		--self-contained-html --junitxml=reports/junit.xml $(ARGS)

lint: installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/clang-format --dry-run --Werror $(EMULATOR)/*.cpp $(EMULATOR)/*.h
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

# tests/emulator runs apart: it loads torch_npu into pytest.
PYTEST = $(RUN) -m pytest -W error $(PARALLEL)
QUICK = not slow and not browser and not cluster
NO_LARGE = not browser and not cluster and not engines

check: lint
	$(PYTEST) tests --ignore tests/emulator --ignore tests/end_to_end -m "$(QUICK)" $(ARGS)

test: lint
	$(PYTEST) tests --ignore tests/emulator -m "$(NO_LARGE)" $(ARGS)
	$(PYTEST) tests/emulator $(ARGS)

test-all: test $(VENV)/.engines
	$(PYTEST) tests --ignore tests/emulator -m "browser or cluster or engines" $(ARGS)

# An extra of pyproject.toml.  It changes none of the locked versions: -c would fail.
$(VENV)/.bench $(VENV)/.engines: $(VENV)/.%: requirements.lock requirements-dev.lock pyproject.toml | installed
	$(RUN) -m harness.entry.install.lock > $(VENV)/constraints.txt
	$(RUN) benchmarks/extra.py $* > $(VENV)/$*.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -r $(VENV)/$*.txt
	touch $@

bench: export OMP_WAIT_POLICY = passive
bench: $(VENV)/.bench
	$(RUN) -m benchmarks.bench $(ARGS)

COMPILE = uv pip compile --universal --python-version 3.10 --no-header --no-annotate --quiet \
	--generate-hashes
# For maintainers: renew the exact versions of the tools, with hashes.
lock:
	$(PYTHON) -m harness.entry.install.lock --inputs > requirements.in
	$(COMPILE) requirements.in > requirements.new
	{ sed -n '/^# /p' requirements.lock; cat requirements.new; } > requirements.tmp
	mv requirements.tmp requirements.lock
	$(PYTHON) -m harness.entry.install.lock --inputs --tests > requirements.in
	$(COMPILE) -c requirements.lock requirements.in > requirements.new
	{ sed -n '/^# /p' requirements-dev.lock; \
		$(PYTHON) -m harness.entry.install.lock --beyond < requirements.new; } > requirements.tmp
	mv requirements.tmp requirements-dev.lock && rm requirements.new requirements.in
