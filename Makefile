# Two commands matter: make demo, make test. Everything else serves them.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench
demo test check bench:
	@echo "written with the first end-to-end path" && false
