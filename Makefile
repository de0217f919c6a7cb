# Two commands: `make demo` and `make test`. Both make a virtual environment in .venv and install what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
REQUIRE ?= torch,jax,tf
COMMA := ,
ENVIRONMENT := TF_CPP_MIN_LOG_LEVEL=3

.PHONY: demo test backends lint bench golden picture documents translations pretrained interop gpu clean

demo: $(READY)
	@$(BIN)/resattn demo

# What compiles fast, not what runs fast: these tests spend their time on compiling JAX. XLA stops at a flag that it does not
# know, so this is for the versions in constraints.txt.
FAST := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

# The suite. `make backends`: the golden vectors as XLA compiles by default, and what depends on the backend of Keras again on
# its other two, each in a process of its own.
PYTEST := $(BIN)/python -m pytest -q -n 2 --durations=5
BACKEND_TESTS := $(addprefix shared_tests/test_,golden.py gradients.py roundtrip.py idioms.py errors.py preprocessing.py live_changes.py training*.py deploy.py maxima.py sharding_keras.py)
test: $(READY) lint
	$(ENVIRONMENT) $(FAST) $(PYTEST) --require $(REQUIRE) shared_tests

backends: $(READY)
	$(ENVIRONMENT) XLA_FLAGS= $(PYTEST) --require jax --frameworks jax shared_tests/test_golden.py
	$(ENVIRONMENT) $(FAST) KERAS_BACKEND=jax $(PYTEST) -k 'not drawn' --require tf --frameworks tf $(BACKEND_TESTS)
	$(ENVIRONMENT) KERAS_BACKEND=torch $(PYTEST) -k 'not drawn' --require tf --frameworks tf $(BACKEND_TESTS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# On a machine with a CUDA device, with its own Python: the verdict of docs/gpu.md, in less than ten minutes, then every test that
# takes a device. FRAMEWORKS says which must be there. All of it runs, whatever disagrees; the status says if anything did.
FRAMEWORKS ?= torch,jax
DEVICE ?= cuda
DEVICE_TESTS := $(addprefix shared_tests/test_,golden.py attention.py gradients.py forward.py sensitivity.py own_kinds.py precision.py trace*.py training*.py deploy.py maxima.py flags.py verdict.py)
gpu:
	@status=0; \
	$(ENVIRONMENT) XLA_FLAGS= $(PYTHON) -m resattn check --device $(DEVICE) --json docs/gpu.json --force || status=1; \
	$(PYTHON) -m resattn.checking.verdict_table docs/gpu.json docs/gpu.md || status=1; \
	$(ENVIRONMENT) XLA_FLAGS= $(PYTHON) -m pytest -q --require $(FRAMEWORKS)$(if $(filter cuda,$(DEVICE)),$(COMMA)cuda) \
	  --frameworks $(FRAMEWORKS) $(DEVICE_TESTS) || status=1; \
	exit $$status

# Every published network at full width against the original library's: NETWORKS, by default all that docs/checkpoints.md lacks.
interop: $(READY)
	$(ENVIRONMENT) $(BIN)/python -W ignore -m shared_tests.interop $(NETWORKS)

# The figures of docs/speed.md and docs/deploy.md, and the picture: on a machine that does nothing else, in about twenty minutes.
bench: $(READY)
	$(ENVIRONMENT) XLA_FLAGS= $(BIN)/resattn bench --json docs/speed.json --force
	$(BIN)/python -m resattn.benchmarks.documents

golden: $(READY)
	$(BIN)/python -m resattn.checking.golden

picture: $(READY)
	$(BIN)/python -m resattn.drawing.pictures

# docs/explained.md, docs/explained.zh-CN.md and their pictures from docs/sketch.py; docs/tour.ipynb, executed.
documents: $(READY)
	$(ENVIRONMENT) $(BIN)/python -m resattn.documents.explained
	$(ENVIRONMENT) XLA_FLAGS= $(BIN)/python -m resattn.documents.tour

# The catalogues of resattn/locale: new sentences come in without a translation.
translations: $(READY)
	$(BIN)/python -m resattn.cli.catalogue

pretrained: $(READY)
	$(BIN)/python -m resattn.training.train_digits --output weights/pretrained/se-digits.safetensors

# The frameworks are installed with exact versions: looser ones can bring gigabytes of CUDA packages with them. KerasHub asks for
# tensorflow-text, which brings another TensorFlow; its ResNets need none of that, but to import it needs the other two.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev,interop,bench]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps keras-hub regex tokenizers
	@touch $(READY)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
