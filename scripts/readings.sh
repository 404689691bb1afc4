#!/usr/bin/env bash
# Not in the paper: what each reading of its text gives. scripts/readings.sh [FLAGS...]
# Flags go to python -m dawp.paper readings; without data (--speech DIR and so on) the bundled clips are taken.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m dawp.paper readings "$@"
