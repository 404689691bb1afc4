#!/usr/bin/env bash
# Check format, lint, types and imports, build the documentation, and run the tests:
#     scripts/test.sh [--quick] [--coverage] [PYTEST ARGUMENTS...]
# --quick omits the tests marked slow, and the files below, which run commands, processes, simulations or many fits;
# --coverage prints the coverage of each module.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
not_quick=(alignment bandwidth baselines browser chain checkpoints cli cluster convolutive_nmf declick declip
    dereverberation diffusion experiment extending filters formats gap gap_channels gap_filling golden hum
    known_room library listening methods nmf noise_estimate page paper properties report restoration
    restore_command reverb reverberant_channels solver speech_metrics workers)
options=(--numprocesses auto)
while [[ ${1:-} == --quick || ${1:-} == --coverage ]]; do
    case $1 in
    --quick)
        options+=(-m "not slow")
        for name in "${not_quick[@]}"; do options+=("--ignore=tests/test_$name.py"); done
        ;;
    --coverage) options+=(--cov=dawp --cov-report=term:skip-covered) ;;
    esac
    shift
done
scripts/setup.sh
.venv/bin/python -m ruff format --check .
.venv/bin/python -m ruff check .
.venv/bin/python -m mypy
.venv/bin/lint-imports
NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs --quiet build --strict
exec .venv/bin/python -m pytest "${options[@]}" "$@"
