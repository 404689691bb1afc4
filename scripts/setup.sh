#!/usr/bin/env bash
# Make .venv with the toolkit and everything it needs. Quick when that is there already.
# The other scripts call it; PYTHON chooses the interpreter (python3 if unset).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stop() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

free_space() { df -h "$1" | awk 'END { print $4 }'; }

python=${PYTHON:-python3}
command -v "$python" >/dev/null || stop "$python is not installed; Python 3.10 or newer is needed (PYTHON=... chooses one)"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || stop "$python does not run"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    stop "Python 3.10 or newer is needed, $python is $version (PYTHON=... chooses another)"

# The stamp is written last and names what was installed, so a broken or outdated set-up is made again.
stamp=.venv/installed
place="$version $PWD"
wanted="$place $(cat requirements.txt setup.py pyproject.toml | cksum)"
[[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]] && exit 0

echo "setup: installing into .venv with Python $version (some minutes the first time)" >&2
if [[ -f $stamp && $(<"$stamp") == "$place "* ]] && .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -f "$stamp"
else
    "$python" -m venv --clear .venv ||
        stop "no virtual environment could be made (on Debian: apt-get install python3-venv)"
fi
log=.venv/install.log
if ! .venv/bin/python -m pip install --disable-pip-version-check -r requirements.txt -e '.[baselines,cluster,tensorboard,dev]' >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    if grep -qF "No space left on device" "$log"; then
        stop "the install failed for want of room: .venv takes about 6 GB, and 2 GB more are needed in ${TMPDIR:-/tmp} (TMPDIR chooses another folder) while it is made; free now: $(free_space .) in $PWD, $(free_space "${TMPDIR:-/tmp}") in ${TMPDIR:-/tmp}"
    fi
    if grep -qiE "gcc|cc1|Python\.h|error: command" "$log"; then
        stop "the install failed; pesq is compiled from source and needs a C compiler and Python's headers (on Debian: apt-get install build-essential python3-dev)"
    fi
    stop "the install failed, see the lines above and $PWD/$log"
fi
printf '%s\n' "$wanted" >"$stamp"
