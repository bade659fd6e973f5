# Everything works from a fresh checkout with only Python (with venv) and make.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: bench bench-compare demo docs test test-slow test-latest fuzz lint format format-check layers package release types wheel

# The environment, made anew when what it is made from changes.
.venv/installed: pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,hf]'
	touch $@

demo: .venv/installed
	$(BIN)/slap fit --recipe demo --trainer.overwrite true
	$(BIN)/slap test --recipe demo

# One thread per process: the tests are many small computations, and two processes share two cores. The tests of a file
# run in one process, so that what its fixtures train or start is made once.
TEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

test: .venv/installed
	$(TEST) -m "not slow and not distributed" $(ARGS)

# The rest: what takes more than some seven seconds, and what starts several processes.
test-slow: .venv/installed
	$(TEST) -m "slow or distributed" $(ARGS)

# The fast tests on the newest torch, transformers, lightning and lhotse, in an environment of its own of some 10 GB. It
# reports, and blocks nothing: a failure shows what to mend before these versions are admitted or found by users. The
# limits of pyproject.toml on lightning, lhotse and transformers are passed over; torchaudio has no newer release.
latest: pyproject.toml setup.cfg
	$(PYTHON) -m venv latest
	latest/bin/pip install --quiet --editable '.[dev,hf]'
	latest/bin/pip install --quiet --upgrade torch torchaudio lightning pytorch-lightning transformers lhotse
	touch $@

test-latest: latest
	latest/bin/pip list | grep --ignore-case --extended-regexp '^(torch|torchaudio|lightning|transformers|lhotse) '
	-OMP_NUM_THREADS=1 latest/bin/pytest --numprocesses 2 --dist loadfile -m "not slow and not distributed" $(ARGS)

# A hundred thousand random cases; the tests run a few thousand of them.
fuzz: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --cases 100000 $(ARGS)

lint: .venv/installed
	$(BIN)/ruff check

format: .venv/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

format-check: .venv/installed
	$(BIN)/ruff format --check

# In an ordinary install all parts of the package lie in one folder, where static tools find them.
.PHONY: build/installed
build/installed: .venv/installed
	rm -rf build
	$(BIN)/pip install --quiet --no-deps --target build/installed .

types: build/installed
	MYPYPATH=build/installed $(BIN)/mypy --package slap

# The rooms import only what lies below them; the contract is in pyproject.toml.
layers: build/installed
	PYTHONPATH=build/installed $(BIN)/lint-imports --no-cache

# The wheel holds every module and works outside of the checkout.
wheel: .venv/installed
	rm -rf build/lib build/wheel dist
	$(BIN)/python -m build --wheel --outdir dist . > /dev/null
	$(BIN)/pip install --quiet --no-deps --target build/wheel dist/slap_audio-*.whl
	$(BIN)/python .ci/check_wheel.py build/wheel

# The documentation, in build/docs; a warning is an error.
docs: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build --quiet --nitpicky --fail-on-warning --keep-going --jobs 2 \
	    -d build/doctrees docs build/docs

# The source archive, and the wheel from it, which therefore holds all that a wheel is built from; and the wheel of
# slap-onnx, a part of the same sources, which must run without torch.
package: .venv/installed
	rm -rf build/lib build/wheel build/onnx packages/slap-onnx/build dist
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(BIN)/python -m build --wheel --outdir dist packages/slap-onnx > /dev/null
	$(BIN)/twine check --strict dist/*
	$(BIN)/pip install --quiet --no-deps --target build/wheel dist/slap_audio-*.whl
	$(BIN)/python .ci/check_wheel.py build/wheel
	$(BIN)/pip install --quiet --no-deps --target build/onnx dist/slap_onnx-*.whl
	$(BIN)/python .ci/check_onnx_wheel.py build/onnx

# Everything that is published; CONTRIBUTING.md says how.
release: package docs

# What is fast and what is not, beside what this machine could do: a few minutes, on a machine that does nothing else.
# `make bench ARGS=--update` keeps the figures in benchmarks/RESULTS.md and benchmarks/results.
bench: .venv/installed
	$(BIN)/python benchmarks/bench.py $(ARGS)

benchmarks/last.json:
	$(MAKE) bench

# The last `make bench` beside the committed figures.
bench-compare: benchmarks/last.json
	$(BIN)/python benchmarks/bench.py --compare
