#!/bin/sh
# Writes requirements/lock.txt and requirements/build.txt: every package of the three distributions
# pinned, with hashes.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'torch==2.13.0\n' >"$work/constraints.txt"
printf 'hatchling\neditables\n' >"$work/build.in"
# Pins stay as they are unless something new needs them otherwise; UPGRADE=1 takes what is newest.
if [ -z "${UPGRADE:-}" ]; then
  cp requirements/lock.txt "$work/lock.txt"
  cp requirements/build.txt "$work/build.txt"
fi
flags="--quiet --allow-unsafe --generate-hashes --strip-extras --no-annotate --no-header
  --no-emit-find-links --no-emit-index-url"

# What regalia-testing and regalia-demo need of others. They and regalia itself are in no index, so
# pip-compile could not resolve their own pyproject.toml.
python3 - testing/pyproject.toml demo/pyproject.toml >"$work/others.in" <<'PYTHON'
import sys, tomllib
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        project = tomllib.load(file)["project"]
    for needed in (project["dependencies"], *project.get("optional-dependencies", {}).values()):
        print(*(line for line in needed if not line.startswith("regalia")), sep="\n")
PYTHON

pip-compile $flags --extra transformers --extra ingest --extra measure --extra tpm --extra dev \
  --constraint "$work/constraints.txt" --output-file "$work/lock.txt" \
  pyproject.toml "$work/others.in"
pip-compile $flags --output-file "$work/build.txt" "$work/build.in"
{
  echo '# Everything but torch, models and the build backend. Written by `make lock`.'
  # torch has a file of its own; drop its entry and pip-compile's remark above it.
  awk '/^# The following/ { next } /^torch==/ { skip = 1 } !skip { print } skip && !/\\$/ { skip = 0 }' \
    "$work/lock.txt"
} >requirements/lock.txt
{
  echo '# The build backend, for the editable install. Written by `make lock`.'
  cat "$work/build.txt"
} >requirements/build.txt
