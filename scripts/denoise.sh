#!/usr/bin/env bash
# The paper's denoising experiment: scripts/denoise.sh [SOURCE [FLAGS...]]
# SOURCE is a sound file, a folder or a list (default: the bundled clips); further flags go to denoise.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
source=${1:-$root/dawp/samples}
shift || true
exec "$root/.venv/bin/python" "$root/denoise.py" \
    --experiment_repetition 20 \
    --show_every 250 \
    --noise_class GAUSSIAN \
    --noise_std 0.2 \
    --snr 2.5 \
    --depth 2 \
    --lstm_layers 4 \
    --source "$source" \
    --samplerate 16000 \
    --clip_length 2 \
    "$@"
