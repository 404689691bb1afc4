#!/usr/bin/env bash
# Install if need be, then denoise a bundled clip with preset fast and show what came of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
exec .venv/bin/python denoise.py --preset fast --source dawp/samples/speech.wav --name demo --overwrite "$@"
