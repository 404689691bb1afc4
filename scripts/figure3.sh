#!/usr/bin/env bash
# The paper's Figure 3: the best of each metric against the input SI-SNR. scripts/figure3.sh [FLAGS...]
# Flags go to python -m dawp.paper figure3; without data (--speech DIR, ...) the bundled clips are used.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m dawp.paper figure3 "$@"
