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

.PHONY: demo test quick slow boot check bench architectures vllm-surface fuzz lock install clean

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

# Every route, parameter and argument of the installed vLLM is classified, or named (status 2).
VLLM_PYTHON ?= .venv-vllm/bin/python
vllm-surface:
	$(VLLM_PYTHON) scripts/make_engine_surfaces.py --check
	$(VLLM_PYTHON) -m pytest -m slow -rs tests/engines/vllm/test_surface_page.py

# Every architecture of the installed library, tiny: served equal to it, or refused by name.
architectures: install
	$(BIN)/python scripts/make_compatibility_table.py

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
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
