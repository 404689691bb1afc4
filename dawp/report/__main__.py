"""``python -m dawp.report RUN_FOLDER``: recreate the report of a run from its files, also of a run in progress."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from dawp import plugins
from dawp.errors import BadInput, os_error_line, printable
from dawp.parser import BAD_INPUT, FAILED, OK, Parser
from dawp.report import tensorboard
from dawp.report.page import write_report


def main(argv: Sequence[str] | None = None) -> int:
    """Write the reports. Return 0 on success, 1 if a file cannot be written, 2 if a folder contains no run."""
    parser = Parser(prog="python -m dawp.report", description=__doc__, allow_abbrev=False)
    parser.add_argument("run_folder", nargs="+", type=Path, help="a run's folder: the one with config.json")
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="also write curves, spectrograms and sounds")
    given = parser.parse_args(argv)
    try:
        plugins.load()
        if given.tensorboard:
            tensorboard.check_installed()
        for folder in given.run_folder:
            print(printable(write_report(folder)))
            if given.tensorboard:
                tensorboard.write(folder, given.tensorboard)
    except BadInput as refusal:
        print(f"{parser.prog}: error: {refusal}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"{parser.prog}: error: {os_error_line(error)}", file=sys.stderr)
        return FAILED
    return OK


if __name__ == "__main__":
    raise SystemExit(main())
