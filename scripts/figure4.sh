#!/usr/bin/env bash
# The paper's Figure 4: spectrograms before and after denoising. scripts/figure4.sh [FLAGS...]
# Flags go to python -m dawp.paper figure4; without data (--speech DIR, ...) the bundled clips are used.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m dawp.paper figure4 "$@"
