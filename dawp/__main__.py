"""``python -m dawp TASK ...``, also the console script ``dawp``: run any registered task, or train a model."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dawp import plugins
from dawp.errors import BadInput, printable
from dawp.parser import BAD_INPUT, print_error
from dawp.tasks.base import TASKS

PROG, TRAIN = "python -m dawp", "train"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a task, train a model (``train KIND``), or list the tasks if none is given.

    Args:
        argv: the task and its flags; None to use the command line.

    Returns:
        The exit code of ``dawp.cli.main``; 2 for an unknown task, or a plugin that cannot be imported.
    """
    task, *flags = (sys.argv[1:] if argv is None else argv) or ("--help",)
    try:
        plugins.load()
    except BadInput as refusal:
        print_error(PROG, str(refusal), refusal.code, "--json" in flags)
        return BAD_INPUT
    if task in ("-h", "--help"):
        print(_usage())
        return 0
    if task == TRAIN:
        from dawp.training import command

        return command.main(flags, f"{PROG} {TRAIN}")
    if task not in TASKS:
        message = f"task must be one of {', '.join(TASKS)}, got {printable(task)}"
        print_error(PROG, message, "invalid_setting", "--json" in flags)
        return BAD_INPUT
    from dawp import cli

    return cli.main(task, flags, f"{PROG} {task}")


def _usage() -> str:
    width = max(map(len, TASKS))
    lines = [f"usage: {PROG} TASK [flags]", "", "tasks:"]
    lines += [f"  {name:{width}}  {task.about}" for name, task in TASKS.items()]
    lines += ["", f"All flags of a task: {PROG} TASK --help"]
    return "\n".join([*lines, f"Train a model on clean recordings: {PROG} {TRAIN} --help"])


if __name__ == "__main__":
    raise SystemExit(main())
