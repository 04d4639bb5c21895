#!/bin/sh
# Build the wheel and install it alone, by the steps of the CPU image; then audit a picture from an empty folder.
set -eu
python=$1
# The image may have 600 MB; Debian with Python takes about 150 MB of them.
most_mb=450
repository=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# `python` in the steps is this one, as it is the base image's there.
PATH="$(dirname "$python"):$PATH" "$python" "$repository/.ci/docker_steps.py" "$work" cpu
installed=$work/opt/tamperwatch

cp -r "$repository/samples/pictures" "$work/pictures"
cd "$work"
"$installed/bin/tamperwatch" --version
"$installed/bin/tamperwatch" doctor
"$installed/bin/tamperwatch" audit pictures --out out
test "$(find pictures -type f | wc -l)" = "$(wc -l <out/results.jsonl)"
test -s out/report.html
"$installed/bin/python" -c 'import importlib.util as u; assert u.find_spec("torch") is None and u.find_spec("pip") is None'
# The bundled page and what it is licensed under; nothing it is made of.
"$installed/bin/python" -c 'from web.pages import assets; found = assets.load(); assert {"page.js", "page.css"} <= set(found.entries); assert b"htmx.org" in found.files["licences.txt"]'
test ! -e "$installed"/lib/python3.*/site-packages/web/frontend
mb=$(du -sm "$installed" | cut -f1)
echo "the wheel works outside the repository: $(du -h "$work"/build/dist/*.whl | cut -f1), what the CPU image holds of ours: $mb MB"
test "$mb" -le "$most_mb"
