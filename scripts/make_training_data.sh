#!/usr/bin/env bash
# Render random music and speech to train networks on: scripts/make_training_data.sh FOLDER [FLAGS...]
# Flags: --minutes 60, --instruments piano,harp, --speech_minutes 10, --seed 0.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" "$root/scripts/make_training_data.py" "$@"
