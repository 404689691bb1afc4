#!/usr/bin/env bash
# What the paper leaves open: each reading of its text, measured. scripts/readings.sh [FLAGS...]
# Flags go to python -m dawp.paper readings; without data (--speech DIR and so on) the bundled clips are taken.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m dawp.paper readings "$@"
