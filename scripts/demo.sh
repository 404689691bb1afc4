#!/usr/bin/env bash
# Install the toolkit if necessary, denoise a bundled clip with preset fast, and print the results.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
exec .venv/bin/python denoise.py --preset fast --source dawp/samples/speech.wav --name demo --overwrite "$@"
