#!/bin/sh
# Build the wheel, install it alone in a new environment, and audit a picture from an empty folder.
set -eu
python=$1
repository=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --wheel --outdir "$work/dist" "$repository" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$repository/constraints.txt" "$work"/dist/*.whl

cp -r "$repository/samples/pictures" "$work/pictures"
cd "$work"
"$work/venv/bin/tamperwatch" --version
"$work/venv/bin/tamperwatch" doctor
"$work/venv/bin/tamperwatch" audit pictures --out out
test "$(find pictures -type f | wc -l)" = "$(wc -l <out/results.jsonl)"
test -s out/report.html
"$work/venv/bin/python" -c 'import importlib.util as u; assert u.find_spec("torch") is None'
echo "the wheel works outside the repository: $(du -h "$work"/dist/*.whl | cut -f1), environment $(du -sh "$work/venv" | cut -f1)"
