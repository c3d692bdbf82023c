# make demo    the whole path on a loopback Hub, in about 3 minutes after the install
# make test    the tests
# make test-browser  the report and the app in a headless Chromium, where there is one
# make test-floors  a choice of tests with the lowest versions that pyproject.toml allows, in .venv-floors
# make faults  every operation against every fault of a Hub, as a table (about 5 minutes)
# make fuzz    100,000 tampered inputs of each kind, as a table (about half an hour)
# make audit   known vulnerabilities of the pinned packages, asked of the package index
# make kills   fifty runs killed with SIGKILL and resumed, saves, pushes and fetches killed; ten minutes
# make lint    ruff and mypy, which also looks for calls that Windows or macOS lack
# make docs    the documentation as a site in site/; a warning is an error
# make wheel   a pure-Python wheel in dist/
# make clean   remove what the targets above made
#
# make demo TORCH_INDEX=ADDRESS  with the PyTorch that lies there, for instance its CPU-only build, 1.7 GB in all;
#              pytorch.org shows the address (any target, as long as .venv is not there)
#
# All targets create .venv or reuse it. Another Python: make test PYTHON=/path/to/python3.12

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
SITE    := $(VENV)/.docs-installed
WORKERS ?= 2
# The first Python that is new enough and can make virtual environments (Debian ships venv apart).
PYTHON  ?= $(shell for name in python3.11 python3 python3.12 python3.13 python3.14; do \
	"$$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo "$$name" && break; done)

.PHONY: demo kills test test-long test-browser test-floors faults fuzz audit lint docs wheel clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	$(BIN)/hf-free demo --overwrite

# Each worker computes on one thread: two processes of one thread beat one of two, and results repeat.
# tests/conftest.py orders the files.
XDIST := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(XDIST) -m "not long" $(PYTEST_ARGS)

# What `make test` leaves out for its ten minutes.
test-long: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[notebook,trackio,onnx,openvino,litert,executorch]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(XDIST) -m long $(PYTEST_ARGS)

test-browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mcp,browser,onnx]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser -rs $(PYTEST_ARGS)

# The newest pip resolves the rest: floors are of what hf-free itself asks for.
FLOOR_TESTS := tests/config tests/provenance tests/publishing tests/data tests/learner tests/metalearning \
	tests/inversion tests/memory tests/reporting tests/cli/test_rows.py tests/training/test_report.py

test-floors: $(BIN)/python
	$(BIN)/python -m venv $(VENV)-floors
	$(BIN)/python tests/support/floors.py > $(VENV)-floors/floors.txt
	$(VENV)-floors/bin/python -m pip install --quiet --disable-pip-version-check -r $(VENV)-floors/floors.txt
	$(VENV)-floors/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	OMP_NUM_THREADS=1 $(VENV)-floors/bin/python -m pytest $(XDIST) -m "not long" $(FLOOR_TESTS) \
		$(PYTEST_ARGS)

faults: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tests/support/fault_matrix.py

fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/support/fuzzing.py

# pip-audit lives in an environment of its own: it is no dependency of hf-free. --strict: what could not be looked up,
# as behind a mirror that knows no advisories, fails instead of passing for clean.
audit: $(BIN)/python
	$(BIN)/python -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

kills: $(STAMP)
	PYTHONPATH=tests/support OMP_NUM_THREADS=1 $(BIN)/python tests/support/killed_runs.py --kills 50
	PYTHONPATH=tests/support OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/support/killed_saves.py --kills 20
	PYTHONPATH=tests/support OMP_NUM_THREADS=1 $(BIN)/python tests/support/killed_transfers.py --kills 50

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy hf_free cli
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 hf_free cli
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin hf_free cli

docs: $(SITE)
	$(BIN)/python docs/generate_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: $(STAMP)
	$(BIN)/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .

clean:
	rm -rf $(VENV) $(VENV)-floors build dist site *.egg-info

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 with the venv module found; give one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Installed again only when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): some minutes and, with PyTorch's CUDA build, about 6 GB the first time."
	@test -z "$(TORCH_INDEX)" || $(BIN)/python -m pip install --disable-pip-version-check --index-url $(TORCH_INDEX) \
		$$(grep -E '^(torch|torchvision)==' constraints.txt)
	$(BIN)/python -m pip install --no-compile --disable-pip-version-check -c constraints.txt setuptools -e ".[dev]"
# pip would compile on one core, which takes minutes; some packages bring files that no Python compiles.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

$(SITE): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@
