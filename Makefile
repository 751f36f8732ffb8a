# Everything that a newcomer needs: `make demo`, `make test`. Both install first what they need, into .venv.

PYTHON ?= python3
BIN := .venv/bin
SOAK ?=
DATA ?=
PORT ?= 0

.PHONY: install demo test test-model check soak bench acceptance counterparts kafka model clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Jidoka needs Python 3.11 or newer: make install PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev,kafka,postgres]'
	touch $@

demo: install
	$(BIN)/jidoka demo

# What the tests run against: Java, Maven, PostgreSQL and Kafka's jars. Quick when all are there.
counterparts: install
	$(BIN)/python deploy/counterparts.py

# One broker in the foreground, its messages in var/kafka/broker. make kafka PORT=9093 takes another port.
kafka: counterparts
	$(BIN)/python -m connectors.kafka.foreground --port $(PORT)

# By files, on as many processes as there are cores: most tests wait for something outside.
test: counterparts
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --ignore=tests/model

# What runs a language model, with torch: 5 GB more to install.
test-model: .venv/.model-installed
	$(BIN)/python -m pytest tests/model

.venv/.model-installed: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[model,model-dev]'
	touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/architecture

soak: install
	$(BIN)/python -m pipelines.soak --out soak/results.json $(SOAK)

bench: install
	$(BIN)/python -m benchmarks

# The embedded model again from its seed: the same weights on the same torch and kind of processor (docs/model-card.md).
model: .venv/.model-installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pipelines.training train

acceptance: install
	@test -n "$(DATA)" || { echo 'say where the labelled recordings are: make acceptance DATA=DIR'; exit 2; }
	$(BIN)/python -m pipelines.acceptance $(DATA)

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
