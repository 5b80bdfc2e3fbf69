#!/bin/sh
# Writes requirements/{lock,develop,build}.txt: every package of the three distributions pinned,
# with hashes. lock.txt is what the product and the demo need, develop.txt what tests and checks
# need besides, build.txt the build backend.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'torch==2.13.0\n' >"$work/constraints.txt"
printf 'hatchling\neditables\n' >"$work/build.in"
# Pins stay as they are unless something new needs them otherwise; UPGRADE=1 takes what is newest.
if [ -z "${UPGRADE:-}" ]; then
  cat requirements/lock.txt requirements/develop.txt >"$work/whole.txt"
  cp requirements/build.txt "$work/build.txt"
fi
flags="--quiet --allow-unsafe --generate-hashes --strip-extras --no-annotate --no-header
  --no-emit-find-links --no-emit-index-url"

# What regalia-testing and regalia-demo need of others. They and regalia itself are in no index, so
# pip-compile could not resolve their own pyproject.toml. Their ``tpm`` is for tests alone.
others() {
  python3 - testing/pyproject.toml demo/pyproject.toml <<'PYTHON'
import sys, tomllib
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        project = tomllib.load(file)["project"]
    for needed in (project["dependencies"], *project.get("optional-dependencies", {}).values()):
        print(*(line for line in needed if not line.startswith("regalia")), sep="\n")
PYTHON
}
others >"$work/others.in"

# Names and hashes of a lock, without torch, which has a file of its own.
entries() {
  awk '/^#/ { next } /^torch==/ { skip = 1 } !skip { print } skip && !/\\$/ { skip = 0 }' "$1"
}

pip-compile $flags --extra transformers --extra ingest --extra measure --extra tpm --extra s3 \
  --extra onnx --extra pkcs11 --extra dev --constraint "$work/constraints.txt" --output-file "$work/whole.txt" \
  pyproject.toml "$work/others.in"
entries "$work/whole.txt" >"$work/whole.entries"
sed -n 's/^\([^ ;]*==[^ ;]*\).*/\1/p' "$work/whole.entries" >>"$work/constraints.txt"
pip-compile $flags --extra transformers --extra ingest --extra measure \
  --constraint "$work/constraints.txt" --output-file "$work/run.txt" \
  pyproject.toml "$work/others.in"
pip-compile $flags --output-file "$work/build.txt" "$work/build.in"
{
  echo '# What the product and the demo need, but torch, models and the build backend. Written by `make lock`.'
  entries "$work/run.txt"
} >requirements/lock.txt
{
  echo '# What tests and checks need besides lock.txt. Written by `make lock`.'
  awk 'NR == FNR { if (/==/) known[$1] = 1; next }
       /==/ { skip = $1 in known } !skip { print }' "$work/run.txt" "$work/whole.entries"
} >requirements/develop.txt
{
  echo '# The build backend, for the editable install. Written by `make lock`.'
  cat "$work/build.txt"
} >requirements/build.txt
