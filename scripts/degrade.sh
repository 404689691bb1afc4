#!/usr/bin/env bash
# Write corrupted copies of clean recordings: scripts/degrade.sh SOURCE OUTPUT CHAIN [FLAGS...]
# SOURCE is a sound file, a folder or a list, OUTPUT a file or a folder that is created, CHAIN the corruptions in order,
# such as "dereverb:rt60=0.3 | denoise:snr=10"; further flags go to python -m dawp chain.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ $# -lt 3 ]]; then
    echo "usage: scripts/degrade.sh SOURCE OUTPUT CHAIN [FLAGS...]" >&2
    exit 2
fi
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m dawp chain --corrupt_only --source "$1" --output "$2" --corrupt "$3" "${@:4}"
