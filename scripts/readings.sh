#!/usr/bin/env bash
# Not in the paper: the result of each reading of its text. scripts/readings.sh [FLAGS...]
# Flags go to python -m dawp.paper readings; without data (--speech DIR, ...) the bundled clips are used.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m dawp.paper readings "$@"
