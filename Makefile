# make serve   install what serving needs and serve the starter models on 127.0.0.1:8000
# make serve DEMO=1  also serve an English sentence embedder and a classifier of photos, with real weights
# make serve MODELS=minilm=hf://sentence-transformers/all-MiniLM-L6-v2  pull models and serve only them
# make test    install what developers need and run the unit and contract tests (a minute or two)
# make test-integration  start real servers: sockets, Redis, Chromium, Prometheus (minutes)
# make test-exports  train, export and compare with PyTorch; installs torch (minutes)
# make check   formatting, lint, types, import contracts, phrases of the documents
# make test-ray    test the service on a cluster of Ray with two nodes (minutes; not in CI)
# make test-large  test the most used model of each task in its real size (minutes, gigabytes)
# make e2e     build the images and test the composed service (needs Docker)
# make loadtest  send a realistic load and check the service level (SCENARIO=smoke, HOST=URL of a running service)
# make drill   test guarantees under hostile input and failures (DRILL=heads SECONDS=30 SEED=1)
# make bench   compare the service with a bare session (Linux, about 20 minutes)
# make bench-peers  compare the service with Mosec, LitServe and a naive server (about an hour)
# make bench-ray  compare the service on Ray Serve with Ray Serve alone (about ten minutes)
# make bench-translation  compare in-flight translation with CTranslate2 (about 15 minutes)
# make models  train, export and evaluate the starter models (hours; DATA=folder of data sets)
# make dashboards  regenerate the Grafana dashboards
# make audit   look up known vulnerabilities of the pinned packages (needs network)
# make lock    pin the packages of images and developers, with hashes (UPGRADE=1 takes the newest versions)

PYTHON ?= python3
DEVICE_EXTRA ?= cpu
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data
SCENARIO ?= smoke
SECONDS ?= 60
SEED ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Images often set it; then every worker, and every process of a test, would compile all files again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: serve test test-integration test-exports test-ray test-large check format loadtest drill audit bench bench-peers bench-ray bench-translation models evaluate dashboards e2e lock system-packages clean

# The environments of developers, and so of CI, hold what deploy/locks lists and nothing newer.
# Two things are not in the locks: torch, whose builds differ by machine, and ONNX Runtime for
# another device, which excludes the one that is locked.
comma := ,
DEV := dev,load,drill,bench,audit
EXPORTS := $(DEV),bench-translation,train,demo
DEMO_REPOSITORY := build/demo
PULLED_REPOSITORY := build/models
extras = $(subst $(comma), --extra ,--extra cpu,$(1))
ifeq ($(DEVICE_EXTRA),cpu)
locked = $(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement deploy/locks/$(1).txt
editable = $(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[cpu,$(1)]"
else
locked = :
editable = $(BIN)/python -m pip install --quiet --editable ".[$(DEVICE_EXTRA),$(1)]"
endif

# Also for those who start Python themselves where it may not write: to compile takes a third of a second.
compiled = $(BIN)/python -m compileall -q service

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.serve: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable ".[$(DEVICE_EXTRA),video]"
	$(compiled)
	touch $@

$(VENV)/.dev: pyproject.toml deploy/locks/dev.txt $(VENV)/.created
	$(call locked,dev)
	$(call editable,$(DEV))
	$(compiled)
	touch $@ $(VENV)/.serve

$(VENV)/.exports: pyproject.toml deploy/locks/exports.txt $(VENV)/.created
	$(call locked,exports)
	$(call editable,$(EXPORTS))
	touch $@ $(VENV)/.dev $(VENV)/.serve

# uv takes seconds for what takes pip a minute.
NPM_FILES := $(addprefix tests/integration/clients/,package.json package-lock.json)
$(VENV)/.clients: deploy/locks/clients.txt $(NPM_FILES) $(VENV)/.dev
	$(BIN)/uv venv --quiet --clear $(VENV)/clients
	$(BIN)/uv pip install --quiet --python $(VENV)/clients/bin/python --no-deps --require-hashes \
		--requirement deploy/locks/clients.txt
	cp $(NPM_FILES) $(VENV)/clients
	if command -v npm >/dev/null; then cd $(VENV)/clients && npm ci --silent --no-audit --no-fund; fi
	touch $@

$(VENV)/.charts: deploy/locks/charts.txt $(VENV)/.dev
	$(BIN)/uv venv --quiet --clear $(VENV)/charts
	$(BIN)/uv pip install --quiet --python $(VENV)/charts/bin/python --no-deps --require-hashes \
		--requirement deploy/locks/charts.txt
	touch $@

$(VENV)/.ray: deploy/locks/ray.txt $(VENV)/.dev
	$(BIN)/uv venv --quiet --clear $(VENV)/ray
	$(BIN)/uv pip install --quiet --python $(VENV)/ray/bin/python --no-deps --require-hashes \
		--requirement deploy/locks/ray.txt
	touch $@

$(VENV)/.peers: deploy/locks/peers.txt $(VENV)/.dev
	$(BIN)/uv venv --quiet --clear $(VENV)/peers
	$(BIN)/uv pip install --quiet --python $(VENV)/peers/bin/python --no-deps --require-hashes \
		--requirement deploy/locks/peers.txt
	touch $@

$(VENV)/.demo: pyproject.toml deploy/locks/demo.txt $(VENV)/.serve
	$(call locked,demo)
	$(if $(filter-out cpu,$(DEVICE_EXTRA)),$(call editable,demo))
	touch $@ $(VENV)/.serve

$(VENV)/.hub: pyproject.toml $(VENV)/.serve
	$(BIN)/python -m pip install --quiet --editable ".[hub]"
	touch $@

serve: $(VENV)/.serve $(if $(DEMO),$(VENV)/.demo) $(if $(findstring ://,$(MODELS)),$(VENV)/.hub)
	$(if $(DEMO),$(BIN)/python -m models.demo --to $(DEMO_REPOSITORY))
	exec $(BIN)/python -m service serve $(if $(DEMO),--models.repository $(DEMO_REPOSITORY)) \
		$(if $(MODELS),--models.serve "$(MODELS)" --models.repository $(PULLED_REPOSITORY))

# `-rs` lists what was skipped and why. A worker for each core.
PYTEST := $(BIN)/python -m pytest -rs
PARALLEL := --numprocesses logical --maxprocesses 8
# Many tests of `make test` wait for a socket or a thread, so there is a worker more.
WORKERS := $$($(BIN)/python -c 'import os; print(min(8, os.cpu_count() + 1))')
# A file of the other lanes shares one server, so its tests stay together.
BY_FILE := $(PARALLEL) --dist loadfile

test: $(VENV)/.dev
	$(PYTEST) --numprocesses $(WORKERS) --dist worksteal -m "not integration" tests/unit tests/contracts

test-integration: $(if $(CI),system-packages) $(VENV)/.dev $(VENV)/.clients $(VENV)/.charts
	$(PYTEST) $(BY_FILE) -m integration tests/integration tests/contracts tests/unit

test-exports: $(VENV)/.exports
	$(PYTEST) $(BY_FILE) tests/exports

# Its environment has what `dev` has, and Ray.
test-ray: $(VENV)/.ray
	$(VENV)/ray/bin/python -m pytest -rs -W ignore tests/ray

# The file is named, and not found by pytest: it exports models of real size.
test-large: $(VENV)/.exports
	$(BIN)/python -m pytest -v -s tests/exports/large.py

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/plain_english.py

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Some shells export HOST, the machine's name: only one given to make is meant.
loadtest: $(VENV)/.dev
	exec $(BIN)/python -m loadtest $(SCENARIO) \
		$(if $(filter command,$(firstword $(origin HOST))),--host $(HOST)) \
		$(if $(WORKERS),--workers $(WORKERS))

audit: $(VENV)/.dev
	$(BIN)/python deploy/audit.py

# `make drill MARKDOWN=1` prints the table of docs/reliability.md.
drill: $(VENV)/.dev $(if $(CI),system-packages)
	exec $(BIN)/python -m drills $(DRILL) --seconds $(SECONDS) --seed $(SEED) \
		$(if $(MARKDOWN),--markdown)

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

bench-peers: $(VENV)/.dev $(VENV)/.peers
	$(BIN)/python -m benchmarks.peers

bench-ray: $(VENV)/.dev $(VENV)/.ray
	$(BIN)/python -m benchmarks.ray

bench-translation: $(VENV)/.exports
	$(BIN)/python -m benchmarks.translation

dashboards: $(VENV)/.dev
	$(BIN)/python -m deploy.grafana.generate

# The file is named, and not found by pytest: it takes Docker and minutes. `-s` shows the build.
e2e: $(VENV)/.dev
	$(BIN)/python -m pytest -v tests/e2e/containers.py

# Hashes of all wheels of a release are kept, so that the files also serve 64-bit Arm.
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	$(if $(UPGRADE),--upgrade)

# The images: the Python of their base, and wheels that run on Debian 12.
LOCK := $(COMPILE) --python-version 3.11 --python-platform x86_64-manylinux_2_36

# Developers and CI: every Python and system that the project supports.
DEV_LOCK := $(COMPILE) --python-version 3.11 --universal

# Where the builds of torch without CUDA are, which PyPI does not have: a page or a folder.
TORCH_LINKS ?= https://download.pytorch.org/whl/cpu/torch/

lock: $(VENV)/.dev
	$(LOCK) --extra cpu --extra grpc --extra hub --extra otel --extra video --output-file deploy/locks/cpu.txt
	$(LOCK) --extra gpu --extra cuda --extra grpc --extra hub --extra otel --extra video --output-file deploy/locks/gpu.txt
	$(LOCK) --extra cpu --extra train --find-links $(TORCH_LINKS) --output-file deploy/locks/tools.txt
	$(DEV_LOCK) $(call extras,$(EXPORTS)) --no-emit-package torch --output-file deploy/locks/exports.txt
	$(subst pyproject.toml,,$(DEV_LOCK)) --group clients --output-file deploy/locks/clients.txt
	$(subst pyproject.toml,,$(DEV_LOCK)) --group charts --output-file deploy/locks/charts.txt
	$(subst pyproject.toml,,$(DEV_LOCK)) --group peers --constraint deploy/locks/exports.txt --output-file deploy/locks/peers.txt
	$(DEV_LOCK) $(call extras,$(DEV)) --constraint deploy/locks/exports.txt --output-file deploy/locks/dev.txt
	$(DEV_LOCK) $(call extras,dev$(comma)load$(comma)drill$(comma)ray) --constraint deploy/locks/dev.txt --output-file deploy/locks/ray.txt
	$(DEV_LOCK) $(call extras,demo) --constraint deploy/locks/exports.txt --output-file deploy/locks/demo.txt

models: $(VENV)/.exports
	$(BIN)/python -m models --data $(DATA)

evaluate: $(VENV)/.exports
	$(BIN)/python -m models.evaluate --data $(DATA) --write-cards

# Programs that tests start as real servers. Debian and Ubuntu; elsewhere install redis-server, chromium.
system-packages:
	command -v redis-server >/dev/null || (apt-get update -qq && apt-get install -y -qq redis-server)
	command -v haproxy >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends haproxy)
	command -v promtool >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus)
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium)
	command -v npm >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends npm)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
