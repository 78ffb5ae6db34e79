# Everything runs in .venv, made here from pyproject.toml and the exact versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: venv demo article part2 test lint format clean

venv: .venv/complete

.venv/complete: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "jaxinv needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[test]'
	@touch $@

# The main job on the project's own faces, in about a minute; ends by naming the report.
demo: venv
	$(BIN)/python -m launch.faces --out_dir=runs/demo --overwrite --steps=400 \
	  --pose_sweep=0,0.5,1,1.5,2 --pose_seeds=2

# The article's pictures on the real faces, where the data are: JAXINV_DATA=folder make article
article: venv
	$(BIN)/python -m launch.faces --dataset=att --preset=article --out_dir=runs/article --overwrite

# Part II: networks with and without an adversary, inverted; on CIFAR-10 where the data are, else on
# shapes that the project draws. A run that was stopped goes on.
part2: venv
	if [ -e "$(JAXINV_DATA)/cifar-10-batches-bin" ]; then data=cifar10; else data=synthetic_shapes; fi; \
	  $(BIN)/python -m launch.cifar --dataset=$$data --out_dir=runs/part2-$$data

test: venv
	$(BIN)/python -m pytest -n auto --maxprocesses=4

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

format: venv
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv runs build dist *.egg-info
