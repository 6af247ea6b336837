# make serve   install what serving needs and serve the starter models on 127.0.0.1:8000
# make test    install what the tests need and run them
# make check   formatting, lint, types, import contracts
# make test-large  the most used model of each task in its real size (minutes, gigabytes)
# make e2e     build the images and try the composed service (needs Docker)
# make loadtest  put a realistic load on it and judge (SCENARIO=smoke, HOST=URL of a running one)
# make drill   mistreat the service in eight ways and judge (DRILL=heads SECONDS=30 SEED=1)
# make bench   measure the service against a bare session (Linux, about 20 minutes)
# make bench-translation  measure translation in flight beside CTranslate2 (about 15 minutes)
# make models  train, export and evaluate the starter models (hours; DATA=folder of data sets)
# make dashboards  write the Grafana dashboards anew
# make audit   look up known vulnerabilities of what the images install (needs network)
# make lock    pin what the images install, with hashes (UPGRADE=1 takes the newest of all)

PYTHON ?= python3
DEVICE_EXTRA ?= cpu
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data
SCENARIO ?= smoke
SECONDS ?= 60
SEED ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# In CI the recipes are tested too, which takes torch; at home their tests say that they skip.
comma := ,
TEST_EXTRAS := $(DEVICE_EXTRA),dev,load$(if $(CI),$(comma)train)

.PHONY: serve test test-large check format loadtest drill audit bench bench-translation models evaluate dashboards e2e lock system-packages clean

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.serve: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable ".[$(DEVICE_EXTRA)]"
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable ".[$(TEST_EXTRAS)]"
	touch $@ $(VENV)/.serve

$(VENV)/.bench: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable ".[$(DEVICE_EXTRA),bench]"
	touch $@ $(VENV)/.serve

$(VENV)/.bench-translation: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable \
		".[$(DEVICE_EXTRA),bench,bench-translation,train]"
	touch $@ $(VENV)/.serve

$(VENV)/.load: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable ".[$(DEVICE_EXTRA),load]"
	touch $@ $(VENV)/.serve

$(VENV)/.audit: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable ".[$(DEVICE_EXTRA),audit]"
	touch $@ $(VENV)/.serve

$(VENV)/.drill: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable ".[$(DEVICE_EXTRA),drill]"
	touch $@ $(VENV)/.serve

$(VENV)/.train: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable ".[$(DEVICE_EXTRA),train]"
	touch $@ $(VENV)/.serve

serve: $(VENV)/.serve
	exec $(BIN)/python -m service serve

test: $(VENV)/.test $(if $(CI),system-packages)
	$(BIN)/python -m pytest

# The file is named, and not found by pytest: it exports models of real size.
test-large: $(VENV)/.train $(VENV)/.test
	$(BIN)/python -m pytest -v -s tests/exports/large.py

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Some shells export HOST, the machine's name: only one given to make is meant.
loadtest: $(VENV)/.load
	exec $(BIN)/python -m loadtest $(SCENARIO) \
		$(if $(filter command,$(firstword $(origin HOST))),--host $(HOST)) \
		$(if $(WORKERS),--workers $(WORKERS))

audit: $(VENV)/.audit
	$(BIN)/python deploy/audit.py

# `make drill MARKDOWN=1` prints the table of docs/reliability.md.
drill: $(VENV)/.drill $(if $(CI),system-packages)
	exec $(BIN)/python -m drills $(DRILL) --seconds $(SECONDS) --seed $(SEED) \
		$(if $(MARKDOWN),--markdown)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

bench-translation: $(VENV)/.bench-translation
	$(BIN)/python -m benchmarks.translation

dashboards: $(VENV)/.test
	$(BIN)/python -m deploy.grafana.generate

# The file is named, and not found by pytest: it takes Docker and minutes. `-s` shows the build.
e2e: $(VENV)/.test
	$(BIN)/python -m pytest -v tests/e2e/containers.py

# For the Python of the images' base, and for wheels that run on Debian 12. Hashes of all wheels of
# a release are kept, so that the files also serve 64-bit Arm.
LOCK := $(BIN)/uv pip compile pyproject.toml --quiet --generate-hashes \
	--python-version 3.11 --python-platform x86_64-manylinux_2_36 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	$(if $(UPGRADE),--upgrade)

# Where the builds of torch without CUDA are, which PyPI does not have: a page or a folder.
TORCH_LINKS ?= https://download.pytorch.org/whl/cpu/torch/

lock: $(VENV)/.test
	$(LOCK) --extra cpu --extra otel --output-file deploy/locks/cpu.txt
	$(LOCK) --extra gpu --extra cuda --extra otel --output-file deploy/locks/gpu.txt
	$(LOCK) --extra cpu --extra train --find-links $(TORCH_LINKS) --output-file deploy/locks/tools.txt

models: $(VENV)/.train
	$(BIN)/python -m models --data $(DATA)

evaluate: $(VENV)/.train
	$(BIN)/python -m models.evaluate --data $(DATA) --write-cards

# Programs that tests start as real servers. Debian and Ubuntu; elsewhere install redis-server, chromium.
system-packages:
	command -v redis-server >/dev/null || (apt-get update -qq && apt-get install -y -qq redis-server)
	command -v promtool >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus)
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
