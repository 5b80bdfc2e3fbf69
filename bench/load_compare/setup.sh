#!/bin/sh
# Makes the environment of `make bench-load`. Run by make; safe to run again.
# Usage: setup.sh PYTHON VENV INSTALL-COMMAND
set -eu
python=$1 venv=$2 install=$3
torch_index=${REGALIA_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}

say() { printf '%s\n' "bench-load: $*" >&2; }

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
say "installing the locked packages, torch, and the loaders to compare with (some minutes)"
$install --quiet --require-hashes --no-deps -r requirements/build.txt
$install --quiet --require-hashes --no-deps -r requirements/lock.txt
# A local wheel first: a site without network has one, and should not wait for others.
$install --quiet --no-index --no-deps torch==2.13.0 2>/dev/null ||
  $install --quiet --index-url "$torch_index" --no-deps torch==2.13.0
$install --quiet -r bench/load_compare/requirements.txt
$install --quiet --no-build-isolation --no-deps --editable .
if ! command -v age >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing the Debian package age"
    apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends age >/dev/null ||
      say "age could not be installed, so its row will say so"
  else
    say "age is missing, so its row will say so: apt-get install age"
  fi
fi
say "ready: $venv"
