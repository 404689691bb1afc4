#!/usr/bin/env bash
# The paper's Figure 5: an inpainted gap. scripts/figure5.sh [FLAGS...]
# Flags go to python -m dawp.paper figure5; without data (--speech DIR, ...) the bundled clips are used.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m dawp.paper figure5 "$@"
