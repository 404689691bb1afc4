"""``python -m dawp train KIND``: the command line of the training."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from typing import Any

from dawp import cli
from dawp.errors import BadInput, FitDiverged, os_error_line, printable
from dawp.io.files import json_text
from dawp.openmp import limit_spinning
from dawp.parser import BAD_INPUT, FAILED, INTERRUPTED, OK, Parser, print_error
from dawp.tasks.base import TASKS
from dawp.training.base import KINDS, ModelKind
from dawp.training.devices import is_first_process
from dawp.training.settings import TaskConfig, TrainingConfig, groups_of


def main(argv: Sequence[str], prog: str = "python -m dawp train") -> int:
    """Train a model, or list the kinds of models if none is given.

    Args:
        argv: the kind of model and its flags.
        prog: the command in messages.

    Returns:
        0: success; 1: a file could not be written, or a loss is not finite; 2: bad input, nothing was done; 130:
        interrupted.
    """
    limit_spinning()  # before PyTorch is loaded
    name, *flags = argv or ("--help",)
    if name in ("-h", "--help"):
        print(_usage(prog))
        return OK
    if name not in KINDS:
        message = f"kind must be one of {', '.join(KINDS)}, got {printable(name)}"
        print_error(prog, message, "invalid_setting", "--json" in flags)
        return BAD_INPUT
    parser = get_parser(KINDS[name], _task_in(flags), f"{prog} {name}")
    given = vars(parser.parse_args(flags))
    as_json, quiet = given.get("json", False), given.get("quiet", False)
    cli.show_notices(parser.prog, quiet=quiet or not is_first_process())
    config: TrainingConfig | None = None
    try:
        config = TrainingConfig.of(name, **given)
        card = _train(config)
        if is_first_process():
            _print(card, config)
    except (BadInput, FitDiverged) as failure:
        groups = groups_of(KINDS[name], _task_in(flags) if KINDS[name].corrupts else None).values()
        names = {field.name for group in groups for field in dataclasses.fields(group)}
        message = f"--{failure}" if str(failure).split(" ", 1)[0] in names else str(failure)
        print_error(parser.prog, message, failure.code, as_json)
        return BAD_INPUT if isinstance(failure, BadInput) else FAILED
    except OSError as error:
        print_error(parser.prog, os_error_line(error), "io_error", as_json)
        return FAILED
    except KeyboardInterrupt:
        hint = "; run the command again with --resume to continue it" if config and _has_checkpoint(config) else ""
        print(f"{parser.prog}: interrupted{hint}", file=sys.stderr)
        return INTERRUPTED
    return OK


def get_parser(kind: ModelKind, task: str, prog: str) -> Parser:
    """Return the parser of a kind of model. Flags that are not given are absent from its result.

    Args:
        kind: of the model.
        task: whose corruption has flags, if the kind has a task.
        prog: the command in messages.
    """
    parser = Parser(
        prog=prog,
        usage="%(prog)s --data FOLDER [flags]",
        description=kind.about,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    corrupts = kind.corrupts
    cli.add_groups(
        parser,
        groups_of(kind, task if corrupts else None).values(),
        without=TASKS[task].settings.restore_only if corrupts else (),
        defaults=kind.defaults,
    )
    return parser


def _task_in(flags: Sequence[str]) -> str:
    """Return the task that the flags select; the default for an unknown one, which its flag refuses later."""
    finder = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    default = TaskConfig.task
    finder.add_argument("-t", "--task", default=default)
    try:
        task = finder.parse_known_args(list(flags))[0].task
    except argparse.ArgumentError:
        return default
    return task if task in TASKS else default


def _usage(prog: str) -> str:
    width = max(map(len, KINDS))
    lines = [f"usage: {prog} KIND --data FOLDER [flags]", "", "kinds of models:"]
    lines += [f"  {name:{width}}  {kind.about}" for name, kind in KINDS.items()]
    return "\n".join([*lines, "", f"All flags of a kind: {prog} KIND --help"])


def _train(config: TrainingConfig) -> dict[str, Any]:
    from dawp.training.loop import train  # loads PyTorch, which the help does not need

    return train(config, progress=not config.loop.quiet)


def _has_checkpoint(config: TrainingConfig) -> bool:
    from dawp.training.files import Files

    return Files(config.loop.output).checkpoint.exists()


def _print(card: dict[str, Any], config: TrainingConfig) -> None:
    """Print the card as JSON (``--json``), only the path (``--quiet``), or the metrics and the path."""
    if config.loop.json:
        print(json_text(card))
        return
    if not config.loop.quiet:
        for name, value in card["metrics"].items():
            print(f"{name:<24} {value:10.4g}")
        logging.getLogger(__name__).info("%d steps in %.0f s", card["steps"], card["seconds"])
    print(printable(config.loop.output) if config.loop.quiet else f"model: {printable(config.loop.output)}")
