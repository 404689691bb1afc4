#!/usr/bin/env bash
# The paper's dereverberation experiment: scripts/dereverb.sh [SOURCE [FLAGS...]]
# SOURCE is a sound file, a folder or a list (default: the bundled clips); further flags go to dereverb.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
source=${1:-$root/dawp/samples}
shift || true
exec "$root/.venv/bin/python" "$root/dereverb.py" \
    --experiment_repetition 20 \
    --show_every 250 \
    --rt60 0.2 \
    --depth 2 \
    --lstm_layers 4 \
    --source "$source" \
    --samplerate 16000 \
    --clip_length 2 \
    "$@"
