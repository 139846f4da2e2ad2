# make demo: install, and mirror a directory.   make test: install what the tests need, and run them.

PYTHON ?= python3
VENV ?= .venv
ROOT ?=
MOUNTPOINT ?=
TESTS ?= tests

# fuse-python is built against libfuse 2 when it is installed.
BUILD_PACKAGES = gcc pkg-config libfuse-dev fuse3 python3-dev python3-venv git
TEST_PACKAGES = acl attr borgbackup gocryptfs rdiff-backup restic rsync sqlite3 util-linux

# Python 3.6 comes with one that takes the newest release even if that does not run on it.
PIP = "pip >= 21, < 22; python_version < '3.7'" "pip; python_version >= '3.7'"

BENCH_PACKAGES = bindfs encfs gocryptfs

.PHONY: demo test bench lint format clean

demo: $(VENV)/.installed
ifeq ($(ROOT),)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" sh examples/demo.sh
else
	$(VENV)/bin/fusepy-passthrough -f "$(MOUNTPOINT)" -o "root=$(ROOT)"
endif

test: $(VENV)/.test-installed
	$(VENV)/bin/python -m pytest $(TESTS)

bench: $(VENV)/.bench-installed
	$(VENV)/bin/python -m benchmarks $(BENCH)
	$(VENV)/bin/python -m benchmarks.views_speed
	$(VENV)/bin/python -m benchmarks.crypt_speed

lint: $(VENV)/.lint-installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.lint-installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	sh .ci/packages $(BUILD_PACKAGES)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade $(PIP)

# Editable, so that the tests and the demo see the sources as they are.
$(VENV)/.installed: $(VENV)/bin/python setup.cfg
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	sh .ci/packages $(TEST_PACKAGES)
	$(VENV)/bin/python -m pip install --quiet --editable ".[test]"
	touch $@

$(VENV)/.bench-installed: $(VENV)/.installed
	sh .ci/packages $(BENCH_PACKAGES)
	$(VENV)/bin/python -m pip install --quiet --editable ".[bench]"
	touch $@

$(VENV)/.lint-installed: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet --editable ".[lint]"
	touch $@
