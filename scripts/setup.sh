#!/usr/bin/env bash
# Create .venv with the toolkit and its dependencies; does nothing if it is up to date.
# The other scripts call it. PYTHON selects the interpreter (default: python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stop() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

free_space() { df -h "$1" | awk 'END { print $4 }'; }

python=${PYTHON:-python3}
command -v "$python" >/dev/null || stop "$python is not installed; Python 3.10 or newer is required (PYTHON=... selects one)"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || stop "$python does not run"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    stop "Python 3.10 or newer is required, $python is $version (PYTHON=... selects another)"

# The stamp is written last and identifies the installed version, so that an incomplete or outdated .venv is rebuilt.
stamp=.venv/installed
place="$version $PWD"
wanted="$place $(cat requirements.txt setup.py pyproject.toml | cksum)"
[[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]] && exit 0

echo "setup: installing into .venv with Python $version (several minutes the first time)" >&2
if [[ -f $stamp && $(<"$stamp") == "$place "* ]] && .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -f "$stamp"
else
    "$python" -m venv --clear .venv ||
        stop "cannot create a virtual environment (on Debian: apt-get install python3-venv)"
fi
log=.venv/install.log
if ! .venv/bin/python -m pip install --disable-pip-version-check -r requirements.txt -e '.[baselines,metrics,cluster,tensorboard,train,dev]' >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    if grep -qF "No space left on device" "$log"; then
        stop "the installation failed: not enough disk space; .venv needs about 6 GB, and ${TMPDIR:-/tmp} 2 GB during the installation (TMPDIR selects another folder); free: $(free_space .) in $PWD, $(free_space "${TMPDIR:-/tmp}") in ${TMPDIR:-/tmp}"
    fi
    if grep -qiE "gcc|cc1|Python\.h|error: command" "$log"; then
        stop "the installation failed; pesq is compiled from source and needs a C compiler and the headers of Python (on Debian: apt-get install build-essential python3-dev)"
    fi
    stop "the installation failed, see the lines above and $PWD/$log"
fi
printf '%s\n' "$wanted" >"$stamp"
