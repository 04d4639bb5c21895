#!/bin/sh
# Have a Chromium for the browser tests: one on the PATH, else Debian's package, else Playwright's own download.
set -eu
python=$1
"$python" -m tests.browser.chromium 2>/dev/null && exit 0
root=
if [ "$(id -u)" != 0 ]; then
    root='sudo -n'
    sudo -n true 2>/dev/null || root=none
fi
if command -v apt-get >/dev/null && [ "$root" != none ]; then
    export DEBIAN_FRONTEND=noninteractive
    # The package lists of a fresh machine are empty or old.
    $root apt-get install -y --no-install-recommends chromium >/dev/null 2>&1 ||
        { $root apt-get update >/dev/null && $root apt-get install -y --no-install-recommends chromium >/dev/null; } || true
fi
"$python" -m tests.browser.chromium 2>/dev/null || "$python" -m playwright install chromium
"$python" -m tests.browser.chromium
