# Every target builds what it needs; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
BENCH := $(VENV)/.bench-done
SECONDS ?= 600

.PHONY: help setup lint types format test test-fast test-integration clients demo bench bench-model bench-cifar bench-service bench-gate bench-drift bench-batch bench-explain bench-levers bench-attacks soak protos lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: $(STAMP) ## build .venv with everything, from constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "oodgate needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve,dev]'
	touch $@

lint: setup ## format, lint, types, layers, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory protos
	git diff --exit-code -- service/protos

format: setup ## put code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: clients test-fast test-integration ## all tests; what was skipped for a missing component is named at the end of each part

# a process a core; the tests of a file share what it makes
test-fast: setup ## laws, units: no server
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not integration' --numprocesses logical --maxprocesses 8 --dist loadfile

test-integration: setup clients ## starts real Ray, HAProxy and the command line
	$(BIN)/pytest -m integration

clients: setup ## stock clients and tools in environments of their own, .venv/clients
	$(BIN)/python -m tests.clients.environments

demo: setup ## train, calibrate, serve and ask, on scikit-learn's digits
	$(BIN)/python -m tests.demo.demo

# one at a time, or they would slow each other
.NOTPARALLEL: bench
bench: bench-service bench-batch bench-model ## serving and the network; the others need data: see below

bench-model: $(BENCH) ## speed and memory of the network, against FrEIA and torchvision
	$(BIN)/python -m tests.bench.model

bench-cifar: $(if $(DATA),$(BENCH)) ## accuracy after equal SECONDS against the published network; DATA=.../train.parquet
	@test -n '$(DATA)' || { echo 'make bench-cifar: expected DATA=.../cifar10/train.parquet'; exit 1; }
	$(BIN)/python -m tests.bench.published_cifar --data '$(DATA)' --seconds $(SECONDS)

bench-gate: setup ## realised rates, promise and cost of the gate; BUNDLE=fashion-mnist TEST=.../test.parquet
	@test -n '$(BUNDLE)' -a -n '$(TEST)' || { echo 'make bench-gate: expected BUNDLE=NAME TEST=DATA, labelled images that the model has not seen'; exit 1; }
	$(BIN)/python -m tests.bench.gate '$(BUNDLE)' '$(TEST)'

bench-drift: setup ## false alarms and delays of the drift test, on simulated streams; a quarter of an hour
	$(BIN)/python -m tests.bench.drift

bench-service: setup ## serving against the Predictor alone and other servers; TEST=.../fashion_mnist/test.parquet
	$(BIN)/python -m tests.bench.service --bundle '$(or $(BUNDLE),fashion-mnist)' $(if $(TEST),--test '$(TEST)')

bench-batch: setup ## a batch job on Ray against the Predictor alone, and its start and memory; TEST=.../fashion_mnist/test.parquet
	$(BIN)/python -m tests.bench.batch --bundle '$(or $(BUNDLE),fashion-mnist)' $(if $(TEST),--test '$(TEST)')

bench-explain: setup ## whether heatmaps are right, beside Grad-CAM, and their cost; TEST=.../fashion_mnist/test.parquet
	@test -n '$(TEST)' || { echo 'make bench-explain: expected TEST=.../test.parquet, labelled images that the model has not seen'; exit 1; }
	$(BIN)/python -m tests.bench.explain --bundle '$(or $(BUNDLE),fashion-mnist)' --test '$(TEST)'

bench-levers: setup ## what raises the cost of attacks; DATA=.../train.parquet TEST=.../test.parquet, with ROBUST=BUNDLE adversarial training, too
	@test -n '$(DATA)' -a -n '$(TEST)' || { echo 'make bench-levers: expected DATA=.../train.parquet TEST=.../test.parquet of the bundle'; exit 1; }
	$(BIN)/python -m tests.bench.levers --bundle '$(or $(BUNDLE),fashion-mnist)' --data '$(DATA)' --test '$(TEST)' $(if $(ROBUST),--robust '$(ROBUST)') --members $(wildcard bundles/baselines/$(or $(BUNDLE),fashion-mnist)-beta-*)

bench-attacks: $(BENCH) ## our attacks against foolbox's on a ResNet; TEST=.../test.parquet
	@test -n '$(TEST)' || { echo 'make bench-attacks: expected TEST=.../test.parquet of the baseline'; exit 1; }
	$(BIN)/python -m tests.bench.cross_check --baseline '$(or $(BASELINE),bundles/baselines/fashion-mnist-resnet)' --test '$(TEST)'

soak: setup clients ## long runs: fuzz, load, swaps, kills, rates, a million rows; DATA=.../test.parquet; with STRANGERS=DATA drift, too
	@test -n '$(DATA)' || { echo 'make soak: expected DATA=.../test.parquet, images like those of the calibration'; exit 1; }
	failed=0; for run in fuzz soak swap chaos wire; do $(BIN)/python -m tests.soak $$run --bundle '$(or $(BUNDLE),fashion-mnist)' --data '$(DATA)' || failed=1; done; \
	$(if $(STRANGERS),$(BIN)/python -m tests.soak drift --bundle '$(or $(BUNDLE),fashion-mnist)' --data '$(DATA)' --strangers '$(STRANGERS)' || failed=1;) \
	$(BIN)/python -m tests.soak.batch --bundle '$(or $(BUNDLE),fashion-mnist)' --data '$(DATA)' || failed=1; exit $$failed

$(BENCH): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

protos: setup ## generate service/protos/*_pb2*
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. service/protos/classifier.proto service/protos/open_inference.proto
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. service/protos/oip.proto

lock: setup ## write what is installed into constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -v -i -E '^(nvidia-|cuda-|triton)' > constraints.txt

clean: ## remove the environment and what runs left
	rm -rf $(VENV) runs build *.egg-info
