"""The command line: flags generated from the settings, one-line errors, and exit codes for scripts."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import logging
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dawp import plugins
from dawp.config import Config
from dawp.errors import BadInput, os_error_line, printable
from dawp.groups import groups_of
from dawp.io.files import json_text, read_json
from dawp.io.panels import is_panel, read_panel
from dawp.io.sources import Recording, find_recordings
from dawp.openmp import limit_spinning
from dawp.parser import BAD_INPUT, FAILED, INTERRUPTED, OK, SOME_FAILED, SOURCE_ARGUMENT, Parser, print_error
from dawp.settings import Settings, choices_of, flag_of, help_of, kind_of, parse_value, text_of
from dawp.tasks.base import PRESETS, QUICK, TASKS, get_task

if TYPE_CHECKING:
    from dawp.runs.experiment import Outcome

HELP, HELP_ALL = "show this page", "show all flags, with defaults"
METHOD = (
    "The deep audio waveform prior fits a randomly initialised network to the corrupted clip alone; the output of the "
    "network is cleaner before it reproduces the corruption."
)


def main(task: str, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command of a task.

    Args:
        task: name of a registered task.
        argv: the arguments; None to use the command line.
        prog: the command in messages and in the results; ``TASK.py`` if None.

    Returns:
        0: success; 1: a file could not be written; 2: bad input, or no recording could be processed; 3: some recordings
        failed, the others are done; 130: interrupted.
    """
    limit_spinning()  # before PyTorch is loaded
    try:
        plugins.load()
    except BadInput as refusal:
        print_error(prog or f"{task}.py", str(refusal), refusal.code, "--json" in (sys.argv if argv is None else argv))
        return BAD_INPUT
    parser = get_parser(task, prog)
    given = vars(parser.parse_args(argv))
    as_json = given.get("json", False)
    show_notices(parser.prog, quiet=given.get("quiet", False))
    try:
        preset = given.pop("preset", "restore" if given.get("restore") else "paper")
        config = Config.of(task, preset, **given)
        for name in _without_effect(config, given):
            logging.getLogger(__name__).info("--%s has no effect with these settings", name)
        command = [*parser.prog.split(), *(sys.argv[1:] if argv is None else argv)]
        return _run(config, given, command)
    except BadInput as refusal:
        print_error(parser.prog, _with_dashes(str(refusal), given), refusal.code, as_json)
        return BAD_INPUT
    except OSError as error:
        print_error(parser.prog, os_error_line(error), "io_error", as_json)
        return BAD_INPUT if error.errno == errno.ENAMETOOLONG else FAILED
    except KeyboardInterrupt:
        without = "" if given.get("restore") else " without --overwrite"
        hint = "" if given.get("corrupt_only") else f"; run the command again{without} to resume it"
        print(f"{parser.prog}: interrupted{hint}", file=sys.stderr)
        return INTERRUPTED


def denoise() -> int:
    """The console script ``dawp-denoise``."""
    return main("denoise")


def dereverb() -> int:
    """The console script ``dawp-dereverb``."""
    return main("dereverb")


def inpaint() -> int:
    """The console script ``dawp-inpaint``."""
    return main("inpaint")


def get_parser(task: str, prog: str | None = None) -> Parser:
    """Return the parser of a task. Flags that are not given are absent from its result, so that presets apply."""
    parser = Parser(
        prog=prog or f"{task}.py",
        usage="%(prog)s [SOURCE] [flags]",
        description=f"{get_task(task).about} {METHOD}",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    parser.other_flags = {
        f"--{setting.name}": name for name, other in TASKS.items() for setting in dataclasses.fields(other.settings)
    }
    parser.add_argument("-h", "--help", action=_Help, text=partial(brief_help, task, parser.prog), help=HELP)
    parser.add_argument("--help_all", action="help", help=HELP_ALL)
    parser.add_argument(SOURCE_ARGUMENT, nargs="?", metavar="SOURCE", help="the same as --source")
    add_flags(parser, task)
    return parser


class _Help(argparse.Action):
    """Print a text and exit."""

    def __init__(self, option_strings: Sequence[str], dest: str, text: Callable[[], str], **kwargs: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **kwargs)
        self._text = text

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        print(self._text())
        parser.exit()


def brief_help(task: str, prog: str) -> str:
    """Return the help of one screen: three examples and the settings that have a ``brief`` text."""
    command = prog if prog.startswith("python") else f"python {prog}"
    settings = [setting for group in groups_of(task).values() for setting in dataclasses.fields(group)]
    flags = {
        ", ".join(filter(None, (setting.metadata["short"], f"--{setting.name}"))): setting.metadata["brief"]
        for setting in settings
        if setting.metadata["brief"]
    }
    flags |= {"--preset": f"set of defaults: {', '.join(PRESETS)}", "-h, --help": HELP, "--help_all": HELP_ALL}
    width = max(map(len, flags))
    return "\n".join(
        [
            f"usage: {prog} [SOURCE] [flags]",
            "",
            get_task(task).about,
            "",
            "examples:",
            *(f"  {command} {example}" for example in get_task(task).examples),
            "",
            "flags:",
            *(f"  {flag:<{width}}  {text}" for flag, text in flags.items()),
        ]
    )


def add_flags(
    parser: argparse.ArgumentParser, task: str, without: Sequence[str] = (), hidden: Container[str] = ()
) -> None:
    """Add a task's flags to a parser that suppresses defaults.

    Args:
        parser: the parser.
        task: name of a registered task.
        without: settings to omit.
        hidden: settings that the help does not list. Their flags are parsed, so that the caller can refuse them with a
            reason.
    """
    kind = get_task(task)

    def described(settings: Mapping[str, Any]) -> str:
        return ", ".join(flag_of(name, value).removeprefix("--") for name, value in settings.items())

    flags = {preset: described(kind.preset(preset)) for preset in PRESETS if preset != QUICK}
    flags[QUICK] = ", ".join(filter(None, ["those of restore", described(kind.presets.get(QUICK, {}))]))
    paper = f", but {flags.pop('paper')}" if flags["paper"] else ""
    presets = paper + "".join(f"; {preset}: {text}" for preset, text in flags.items() if preset != "paper")
    default = "paper" if "restore" in without else "paper; with --restore, restore"
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        help=f"paper: the paper's settings, the defaults below{presets} (default: {default})",
    )
    add_groups(parser, groups_of(task).values(), without, hidden)


def add_groups(
    parser: argparse.ArgumentParser,
    groups: Iterable[type[Settings]],
    without: Container[str] = (),
    hidden: Container[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Add the flags of groups of settings to a parser that suppresses defaults.

    Args:
        parser: the parser.
        groups: of settings, each a section of the help.
        without: settings to omit.
        hidden: settings that the help does not list.
        defaults: default values that differ from those of the settings, by name, for the help.
    """
    for group in groups:
        title, description = group.describe()
        settings = [setting for setting in dataclasses.fields(group) if setting.name not in without]
        section = parser.add_argument_group(title, description) if settings else None
        for setting in settings:
            default = text_of(defaults[setting.name]) if defaults and setting.name in defaults else _default(setting)
            _add_flag(section, setting, group, default, setting.name not in hidden)


def flag_rows(
    group: type[Settings], by_kind: Mapping[str, Mapping[str, Any]] | None = None
) -> list[tuple[str, str, str]]:
    """Return flag, default and description of every setting of a group, for docs/flags.md.

    Args:
        group: class of the settings.
        by_kind: default values that differ for a kind of model, by the names of the kind and of the setting.
    """
    rows = []
    for setting in dataclasses.fields(group):
        negative = f" / `--no_{setting.name}`" if kind_of(setting, group) is bool else ""
        short = f"`{setting.metadata['short']}`, " if setting.metadata["short"] else ""
        others = [
            f"; {kind}: {text_of(values[setting.name])}"
            for kind, values in (by_kind or {}).items()
            if setting.name in values
        ]
        texts = "".join([_default(setting), *others]), _explanation(setting)
        default, explanation = (text.replace("|", r"\|") for text in texts)
        rows.append((f"{short}`--{setting.name}`{negative}", default, explanation))
    return rows


class _Notices(logging.Handler):
    """Shows log messages on standard error, above any progress bar, each once.

    Messages about a recording are logged again by every repetition, and every row of a table, that uses it.
    """

    def __init__(self, prog: str) -> None:
        super().__init__()
        self._prog = prog
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        serious = record.levelno >= logging.WARNING
        prefix = f"{self._prog}: {record.levelname.lower()}: " if serious else ""
        line = prefix + record.getMessage()
        if line not in self._shown:
            self._shown.add(line)
            tqdm.write(line, file=sys.stderr)


def show_notices(prog: str, quiet: bool) -> None:
    """Show the log messages of the toolkit on standard error; if ``quiet``, only warnings and errors."""
    logger = logging.getLogger("dawp")
    logger.handlers[:] = [_Notices(prog)]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False


def _without_effect(config: Config, given: dict[str, Any]) -> list[str]:
    """Return the given flags that have no effect on the results in combination with the other settings."""
    effective = config.effective()
    return [name for name in given if name not in effective]


def _with_dashes(message: str, given: dict[str, Any]) -> str:
    """Add dashes to a message that starts with the name of a given flag."""
    return f"--{message}" if message.split(" ", 1)[0] in given else message


def _run(config: Config, given: dict[str, Any], command: Sequence[str]) -> int:
    restores = config.restoration.restore
    if is_panel(config.run.source):
        return _run_panel(config, given, command)
    recordings = find_recordings(config.run.source, restores or config.corruption.sources_are_corrupted)
    if restores:
        return _restore(config, recordings, command)
    if config.restoration.corrupt_only:
        return _corrupt(config, recordings)
    if config.clip.align and all(len(recording.paths) == 1 for recording in recordings):
        logging.getLogger(__name__).info("--align has no effect: the source has no pairs")
    # These modules load PyTorch, which the help does not need.
    from dawp.metrics.summary import table
    from dawp.report import tensorboard
    from dawp.report.page import REPORT, is_stale, write_report
    from dawp.report.pictures import draw_nothing, draw_repetition
    from dawp.runs import experiment
    from dawp.runs.folder import SUMMARY

    if config.report.tensorboard:
        tensorboard.check_installed()
    draw = draw_repetition if config.report.pictures else draw_nothing
    outcome = experiment.run(config, recordings, draw, command, progress=not config.report.quiet)
    if outcome.folder is None or not (outcome.done or outcome.skipped):
        return _print_failures(config, outcome)
    log = logging.getLogger(__name__)
    if not outcome.done and not outcome.failures:
        log.info("all %d repetitions exist already, nothing to do", outcome.skipped)
    elif outcome.skipped:
        log.info("%d repetitions existed already", outcome.skipped)
    there = outcome.folder / SUMMARY
    summary = read_json(there) if there.exists() else None
    if summary and not (config.report.quiet or config.report.json):
        print(f"\n{table(summary)}\n")  # first, since the report may fail
    page = outcome.folder / REPORT if config.report.report else None
    if page and is_stale(outcome.folder):
        write_report(outcome.folder)
    if config.report.tensorboard:
        tensorboard.write(outcome.folder, config.report.tensorboard)
    text = f"results: {printable(outcome.folder)}"
    text += f"\nreport:  {printable(page)}" if page else ""
    _print_outcome(config, outcome, text, report=page, summary=summary)
    return SOME_FAILED if outcome.failures else OK


def _restore(config: Config, recordings: Sequence[Recording], command: Sequence[str]) -> int:
    from dawp.restoration import files as restoration

    return _print_files(config, restoration.run(config, recordings, command, progress=not config.report.quiet))


def _corrupt(config: Config, recordings: Sequence[Recording]) -> int:
    from dawp.restoration import corrupted

    return _print_files(config, corrupted.run(config, recordings))


def _run_panel(config: Config, given: dict[str, Any], command: Sequence[str]) -> int:
    panel = read_panel(config.run.source or Path())
    progress = not config.report.quiet
    if config.restoration.restore or config.restoration.corrupt_only:
        from dawp.restoration import panel as restoration

        return _print_files(config, restoration.run(panel, config, given, command, progress))
    from dawp.report.page import is_stale, write_report
    from dawp.report.pictures import draw_nothing, draw_repetition
    from dawp.runs import panel as runs

    if config.report.tensorboard:
        raise BadInput(f"tensorboard must be none for a panel, got {printable(config.report.tensorboard)}")
    draw = draw_repetition if config.report.pictures else draw_nothing
    outcome, of_rows = runs.run(panel, config, given, draw, command, progress)
    if not (outcome.done or outcome.skipped):
        return _print_failures(config, outcome)
    folders = [row.folder for row in of_rows if row.folder and (row.done or row.skipped)]
    for folder in folders:
        if config.report.report and is_stale(folder):
            write_report(folder)
    _print_outcome(
        config, outcome, f"results of {len(folders)} runs: {printable(config.run.output_dir / panel.results)}"
    )
    return SOME_FAILED if outcome.failures else OK


def _print_files(config: Config, outcome: Outcome) -> int:
    """Print the outcome of a command that writes one file for each recording, and return the exit code."""
    if not outcome.done and not outcome.skipped:
        return _print_failures(config, outcome)
    if not outcome.done and not outcome.failures:
        logging.getLogger(__name__).info("all %d recordings are restored already, nothing to do", outcome.skipped)
    _print_outcome(
        config, outcome, f"{'restored' if config.restoration.restore else 'corrupted'}: {printable(outcome.folder)}"
    )
    return SOME_FAILED if outcome.failures else OK


def _print_outcome(config: Config, outcome: Outcome, text: str, **more: Any) -> None:
    """Print the text to standard output, or one JSON object (``--json``), or only the path (``--quiet``)."""
    if config.report.json:
        print(json_text({**dataclasses.asdict(outcome), **more}))
    else:
        print(outcome.folder if config.report.quiet else text)


def _print_failures(config: Config, outcome: Outcome) -> int:
    """Print the outcome of a command that finished nothing, with its first failure, if ``--json`` is set."""
    if config.report.json:
        first = {"error": outcome.failures[0], "code": outcome.failure_codes[0]}
        print(json_text({**first, **dataclasses.asdict(outcome)}))
    return BAD_INPUT


def _add_flag(
    section: Any, setting: dataclasses.Field[Any], group: type[Settings], default: str, is_listed: bool
) -> None:
    kind, facts = kind_of(setting, group), setting.metadata
    names = [facts["short"]] if facts["short"] else []
    explanation = f"{_explanation(setting)} (default: {default})".replace("%", "%%")
    text = explanation if is_listed else argparse.SUPPRESS
    if kind is bool:
        section.add_argument(*names, f"--{setting.name}", action="store_true", help=text)
        section.add_argument(f"--no_{setting.name}", dest=setting.name, action="store_false", help=argparse.SUPPRESS)
        return
    metavar = "X,Y,Z" if kind is tuple else kind.__name__.upper()
    if choices := choices_of(setting):
        metavar = "{" + ",".join(choices) + "}"
    section.add_argument(
        *names, f"--{setting.name}", type=lambda text: parse_value(setting, group, text), metavar=metavar, help=text
    )


def _explanation(setting: dataclasses.Field[Any]) -> str:
    """Return the help of a setting with its choices, and the meaning of none if that is not the default."""
    text = help_of(setting)
    if choices := choices_of(setting):
        text += f" ({', '.join(choices)})"
    if setting.metadata["none"] and setting.default is not None:
        text += f"; {setting.metadata['none_word']}: {setting.metadata['none']}"
    return text


def _default(setting: dataclasses.Field[Any]) -> str:
    facts = setting.metadata
    return f"{facts['none_word']}: {facts['none']}" if setting.default is None else text_of(setting.default)
