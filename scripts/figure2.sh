#!/usr/bin/env bash
# The paper's Figure 2: SI-SNR against the epoch. scripts/figure2.sh [FLAGS...]
# Flags go to python -m dawp.paper figure2; without data (--speech DIR, ...) the bundled clips are used.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m dawp.paper figure2 "$@"
