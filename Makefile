# make serve   install what serving needs and serve the starter models on 127.0.0.1:8000
# make test    install what the tests need and run them
# make check   formatting, lint, types, import contracts
# make bench   measure the service against a bare session (Linux, about 20 minutes)
# make models  train, export and evaluate the starter models (hours; DATA=folder of data sets)

PYTHON ?= python3
DEVICE_EXTRA ?= cpu
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# In CI the recipes are tested too, which takes torch; at home their tests say that they skip.
comma := ,
TEST_EXTRAS := $(DEVICE_EXTRA),dev$(if $(CI),$(comma)train)

.PHONY: serve test check format bench models evaluate system-packages clean

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

$(VENV)/.train: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable ".[$(DEVICE_EXTRA),train]"
	touch $@ $(VENV)/.serve

serve: $(VENV)/.serve
	exec $(BIN)/python -m service serve

test: $(VENV)/.test $(if $(CI),system-packages)
	$(BIN)/python -m pytest

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

models: $(VENV)/.train
	$(BIN)/python -m models --data $(DATA)

evaluate: $(VENV)/.train
	$(BIN)/python -m models.evaluate --data $(DATA) --write-cards

# Programs that tests start as real servers. Debian and Ubuntu; elsewhere install redis-server.
system-packages:
	command -v redis-server >/dev/null || (apt-get update -qq && apt-get install -y -qq redis-server)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
