# The two doors: `make demo` and `make test`. Both make .venv themselves and
# need nothing but Python 3.11 or newer, make and PyPI.
# The first that runs and is new enough (a version manager's shim may not run).
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done; echo python3)
VENV := .venv
TRAIN_VENV := .venv-train
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
SAMPLES := tests/samples
DEMO := indexes/demo

.PHONY: demo test test-slow test-torch test-train check format campaign campaign-torch bench bench-latency bench-search bench-filters bench-growth bench-pipeline bench-gpu quality clean

$(VENV)/.made: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "mmsearch needs Python 3.11 or newer; say which: make PYTHON=python3.12 $@"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed --editable '.[cpu]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made
	$(BIN)/python -m pip install --quiet --editable '.[cpu,dev]'
	@touch $@

demo: $(VENV)/.made
	@echo "-- indexing the bundled samples"
	$(BIN)/mmsearch index $(SAMPLES)/photos $(SAMPLES)/drawings $(SAMPLES)/sounds $(SAMPLES)/texts --index $(DEMO)
	@sh tests/demo.sh $(BIN)/mmsearch $(DEMO) $(SAMPLES)

# Several tests at a time: `pytest -n 0` runs them one by one.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 6 --dist worksteal
test: $(VENV)/.dev
	$(PYTEST)

test-slow: $(VENV)/.dev
	$(PYTEST) -m "slow and not campaign"

$(TRAIN_VENV)/.made: pyproject.toml
	$(PYTHON) -m venv $(TRAIN_VENV)
	$(TRAIN_VENV)/bin/python -m pip install --quiet --editable '.[cpu,torch]' 'pytest>=8,<10' 'pytest-xdist>=3.6,<4' 'librosa>=0.10,<1'
	@touch $@

# The tests of what runs on PyTorch (some gigabytes), so in an environment of their own:
# training, and the spaces of other libraries.
# Two files at a time: each process has a PyTorch of its own.
test-torch: $(TRAIN_VENV)/.made
	OMP_NUM_THREADS=1 $(TRAIN_VENV)/bin/python -m pytest -n 2 --dist loadfile \
		tests/test_openclip*.py tests/test_clap.py tests/test_kept.py tests/test_fork_torch.py \
		tests/test_gemma*.py tests/test_captions.py tests/test_failures_torch.py tests/test_mcr.py \
		tests/test_pull.py tests/test_train*.py tests/test_readme.py

test-train: $(TRAIN_VENV)/.made
	$(TRAIN_VENV)/bin/python -m pytest tests/test_train*.py tests/test_readme.py

check: $(VENV)/.dev
	$(BIN)/ruff format --check mmsearch tests benchmarks docs
	$(BIN)/ruff check mmsearch tests benchmarks docs
	$(BIN)/mypy -p mmsearch
	$(MAKE) test-slow
	$(MAKE) test

format: $(VENV)/.dev
	$(BIN)/ruff format mmsearch tests benchmarks docs
	$(BIN)/ruff check --fix mmsearch tests benchmarks docs

# Long runs, left out of `make test`: 50 runs killed at random, 50 whose decoders are,
# 2,000 damaged indexes, 2,500 damaged files, forged index folders, the 1 GB line, forks beside threads, a forking server,
# threads under a debug allocator
campaign: $(VENV)/.dev
	$(BIN)/python -m pytest -m campaign

# The same of what runs on PyTorch
campaign-torch: $(TRAIN_VENV)/.made
	$(TRAIN_VENV)/bin/python -m pytest -m campaign tests/test_openclip.py \
		tests/test_harmed.py::test_so_do_fifty_runs_with_a_space_on_pytorch

# What the README's figures come from; each prints a table and writes benchmarks/results/.
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/cold.py
	$(BIN)/python benchmarks/rescan.py
	$(BIN)/python benchmarks/encode.py

# What a query costs beside FAISS, on 1,000,000 made-up parts (a quarter of an hour), or on
# make bench-latency VECTORS=float16 (n, 512).npy TEXTS=its.parquet [QUERIES=(n, 512).npy]
bench-latency: $(VENV)/.dev
	$(BIN)/python benchmarks/latency.py $(if $(PARTS),--parts $(PARTS)) $(if $(INDEX),--index $(INDEX)) \
		$(if $(VECTORS),--vectors $(VECTORS)) $(if $(TEXTS),--texts $(TEXTS)) $(if $(QUERIES),--queries $(QUERIES))

# The engines that search is compared with, each left out where it does not install (hnswlib
# comes as source and needs a C++ compiler).
PEERS := hnswlib usearch scann lancedb
$(BENCH_VENV)/.made: pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --editable '.[cpu,plot]'
	@for peer in $(PEERS); do $(BENCH_VENV)/bin/python -m pip install --quiet $$peer \
		|| echo "-- $$peer did not install here: it is left out"; done
	@touch $@

# make bench-search DATA=folder with passages.npy and passage_queries.npy, crops.npy and
# crop_queries.npy (benchmarks/search_data.py makes them): approximate search and its peers.
# With COUNT=200000 on so many rows only. A million rows take some two hours on two cores.
bench-search: $(BENCH_VENV)/.made
	@test -n "$(DATA)" || { echo "say where the vectors are: make bench-search DATA=folder"; exit 2; }
	$(BENCH_VENV)/bin/python benchmarks/search.py --base $(DATA)/passages.npy \
		--queries $(DATA)/passage_queries.npy $(if $(COUNT),--count $(COUNT))
	@test ! -f $(DATA)/crops.npy || $(BENCH_VENV)/bin/python benchmarks/search.py --name crops \
		--base $(DATA)/crops.npy --queries $(DATA)/crop_queries.npy

# How it grows: 1,000,000 and 10,000,000 rows between those (some 40 GB of disk, an hour).
bench-growth: $(BENCH_VENV)/.made
	@test -n "$(DATA)" || { echo "say where the vectors are: make bench-growth DATA=folder"; exit 2; }
	$(BENCH_VENV)/bin/python benchmarks/growth.py --base $(DATA)/passages.npy \
		--queries $(DATA)/passage_queries.npy

# The same data, searched with filters, beside LanceDB.
bench-filters: $(BENCH_VENV)/.made
	@test -n "$(DATA)" || { echo "say where the vectors are: make bench-filters DATA=folder"; exit 2; }
	$(BENCH_VENV)/bin/python benchmarks/filters.py --base $(DATA)/passages.npy \
		--queries $(DATA)/passage_queries.npy $(if $(COUNT),--count $(COUNT))

# Large models, with PyTorch: what the pipeline wastes on a CPU; what a GPU makes of it.
bench-pipeline: $(TRAIN_VENV)/.made
	$(TRAIN_VENV)/bin/python benchmarks/pipeline.py $(if $(PHOTOS),--photos $(PHOTOS))

# make bench-gpu [SPACE=openclip:…] [PHOTOS=folder]
bench-gpu: $(TRAIN_VENV)/.made
	$(TRAIN_VENV)/bin/python benchmarks/gpu.py $(if $(SPACE),--space $(SPACE)) \
		$(if $(PHOTOS),--photos $(PHOTOS))

# make quality DATA=folder (its layout: mmsearch/train/mini/data.py)
# and, each left out if not given: STAMPS=…/tuxpaint/stamps CLIPART=…/openclipart
# BEFORE=space folder to compare with, FOLDS=JSON of the trainer's --folds, SPACE=space folder
quality: $(VENV)/.dev
	$(BIN)/python benchmarks/quality.py --data $(DATA) $(if $(STAMPS),--stamps $(STAMPS)) \
		$(if $(CLIPART),--clipart $(CLIPART)) $(if $(BEFORE),--before $(BEFORE)) \
		$(if $(FOLDS),--folds $(FOLDS)) $(if $(SPACE),--space $(SPACE))

clean:
	rm -rf $(VENV) $(TRAIN_VENV) $(BENCH_VENV) $(DEMO) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
