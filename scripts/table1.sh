#!/usr/bin/env bash
# The paper's Table 1: dereverberation by reverberation time and kind of sound. scripts/table1.sh [FLAGS...]
# Flags go to python -m dawp.paper table1; without data (--speech DIR, ...) the bundled clips are used.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m dawp.paper table1 "$@"
