"""Reproduce a table or figure of the paper, or compare readings of its text."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import errno
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dawp import cli
from dawp.config import Config
from dawp.devices import cores
from dawp.errors import BadInput, os_error_line, printable
from dawp.io.files import check_writable, json_text
from dawp.paper import datasets, figure2, figure3, figure4, figure5, readings, runs, show, table1, table2, table3
from dawp.paper.study import KINDS, About, Found, Size, Study, counted
from dawp.parallel.progress import format_duration
from dawp.parser import BAD_INPUT, FAILED, INTERRUPTED, OK, SOME_FAILED, Parser, print_error
from dawp.report.settings import ReportConfig
from dawp.restoration.settings import RestoreConfig
from dawp.runs.environment import environment
from dawp.runs.folder import NOT_IDENTITY
from dawp.settings import flag_of
from dawp.tasks.base import get_task

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY for module in (table1, table2, table3, figure2, figure3, figure4, figure5, readings)
}
NOT_OFFERED = (
    *("source", "experiment_repetition", "name", "overwrite", "tensorboard", "min_gap_ms", "align"),
    *(setting.name for setting in dataclasses.fields(RestoreConfig)),
)
FREE_SETTINGS = {"seed", "device", "show_every", "save_outputs"}
"""Settings that may differ from the paper's without the run being labelled as different."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0: success; 1: a file could not be written; 2: bad input; 3: some fits failed; 130: interrupted.
    """
    parser = _parser()
    given = vars(parser.parse_args(argv))
    as_json = given.get("json", False)
    try:
        if given["what"] == "datasets":
            return _report_datasets(given["folder"], parser.prog)
        command = [*parser.prog.split(), *(sys.argv[1:] if argv is None else argv)]
        return _run(STUDIES[given.pop("what")], given, command)
    except BadInput as refusal:
        print_error(parser.prog, str(refusal), refusal.code, as_json)
        return BAD_INPUT
    except OSError as error:
        print_error(parser.prog, os_error_line(error), "io_error", as_json)
        return BAD_INPUT if error.errno == errno.ENAMETOOLONG else FAILED
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED


def _parser() -> Parser:
    parser = Parser(prog="python -m dawp.paper", description=__doc__, allow_abbrev=False)
    choices = parser.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=Parser)
    for study in STUDIES.values():
        subparser = choices.add_parser(
            study.name,
            help=study.title,
            description=study.title,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        text = (
            "data and size; the bundled clips are used by default; if a kind of sound is given, the others are omitted"
        )
        group = subparser.add_argument_group("The study", text)
        for kind in dict.fromkeys(kind for cell in study.cells for kind in cell.kinds):
            text = f"source of {kind}: a data set, folder, list or file"
            group.add_argument(f"--{kind}", type=_path, metavar="DIR", help=text)
        suffix = ", as in the paper" if study.in_paper else ""
        text = f"number of clips per cell, split evenly between its kinds of sound (default: {study.clips}{suffix})"
        group.add_argument("--clips", type=int, default=study.clips, help=text)
        text = "time a few epochs of each cell, print the estimated total time and exit"
        no_fits = group.add_mutually_exclusive_group()
        no_fits.add_argument("--estimate_time", "--estimate-time", action="store_true", default=False, help=text)
        text = "make the table from finished fits only; start no new fits"
        no_fits.add_argument("--finished_only", action="store_true", default=False, help=text)
        task = get_task(study.cells[0].task)
        cli.add_flags(subparser, task.name, (*NOT_OFFERED, *task.settings.restore_only), hidden=study.own_settings)
    check = choices.add_parser("datasets", help="describe the recordings in a folder", allow_abbrev=False)
    check.add_argument("folder", type=_path, nargs="+", help="data set in the layout of its distributor")
    return parser


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must name a data set, folder, list or file, got ''")
    return Path(text)


def _report_datasets(folders: Sequence[Path], prog: str) -> int:
    cli.show_notices(prog, quiet=False)
    refused = 0
    for folder in folders:
        try:
            print(datasets.report(folder), flush=True)
        except BadInput as refusal:
            print(f"{prog}: error: {refusal}", file=sys.stderr)
            refused += 1
    if refused == len(folders):
        return BAD_INPUT
    return SOME_FAILED if refused else OK


def _run(study: Study, given: dict[str, Any], command: Sequence[str]) -> int:
    preset = given.pop("preset", "paper")
    clips = given.pop("clips")
    sources = {kind: given.pop(kind) for kind in KINDS if kind in given}
    only_estimate, only_finished = given.pop("estimate_time"), given.pop("finished_only")
    cells = runs.grid(study, preset, sources, clips, given)
    configs = [part.plan.config for parts in cells.values() for part in parts]
    config = configs[0]
    cli.show_notices("dawp.paper", config.report.quiet)
    effective = {name for one in configs for name in one.effective()}
    for name in given:
        if name not in effective:
            logging.getLogger("dawp.paper").info("--%s has no effect in %s", name, study.name)
    if only_estimate:
        _print_time_estimate(study, cells, config.report)
        return OK
    folder = config.run.output_dir / "paper"
    check_writable(folder)
    for path in show.output_paths(study, folder):
        if path.is_dir():
            raise BadInput(
                f"{printable(path)}: is a folder, cannot write a file of {study.name} there", code="output_exists"
            )
    failures = [] if only_finished else runs.run_study(cells, study.name, command)
    found = runs.collect(cells)
    if not any(found.values()):
        where = printable(config.run.output_dir)
        raise BadInput(f"{study.name}: {where} has no finished fits with these settings", code="not_found")
    paths = show.write(study, found, _about(study, cells, found, command, preset, sources, clips, given), folder)
    if config.report.json:
        print(paths[2].read_text(encoding="utf-8"), end="")
    elif config.report.quiet:
        print(folder)
    else:
        print(f"\n{paths[0].read_text(encoding='utf-8')}\nwritten: {', '.join(printable(path) for path in paths)}")
    return SOME_FAILED if failures else OK


def _about(
    study: Study,
    cells: runs.Grid,
    found: Found,
    command: Sequence[str],
    preset: str,
    sources: Mapping[str, Path],
    clips: int,
    given: Mapping[str, Any],
) -> About:
    """Return the header of the table: label, size, settings, data, machine and command."""
    parts = [part for cell_parts in cells.values() for part in cell_parts]
    config = parts[0].plan.config
    size = Size(clips, config.fit.epochs)
    changed, missing, departures = _changed(cells, preset), _missing(parts, found), readings.departures(config)
    label = _label(study, cells, found, preset, sources, size, changed, bool(missing))
    full = f"the paper: {study.size}" if study.in_paper else f"in full: {study.size}"
    lines = []
    if changed:
        flags = (flag_of(name, value) for name, value in given.items() if name in changed)
        lines.append(f"settings of this run: {' '.join(flags)}")
    if departures:
        lines.append(f"in the paper's text {'; '.join(departures)}")
    lines += missing
    lines += _sounds(study, parts, sources)
    about = {**environment(config, command), "cores": cores()}
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("python", "torch"))
    today = datetime.datetime.now(datetime.timezone.utc).date()
    lines.append(f"{about['device']}, {cores()} cores; {versions}; seed {about['seed']}; {today}")
    lines.append(f"made by: {printable(shlex.join(about['command']))}")
    return About(f"{label}: {size} ({full}); preset {preset}", lines, size, about)


def _label(
    study: Study,
    cells: runs.Grid,
    found: Found,
    preset: str,
    sources: Mapping[str, Path],
    size: Size,
    changed: set[str],
    is_missing: bool,
) -> str:
    """Return how the run compares with the paper's: its data, size and settings."""
    parts = [part for cell_parts in cells.values() for part in cell_parts]
    smallest = min(sum(part.clips for part in cell_parts) for cell_parts in cells.values())
    if smallest < study.clips or size.epochs < study.epochs:
        return "A REDUCED RUN, NOT FINISHED" if is_missing else "A REDUCED RUN"
    if is_missing or any(fit.is_diverged for fits in found.values() for fit in fits):
        return "NOT FINISHED"
    if not study.in_paper:
        return "NOT IN THE PAPER"
    has_all_kinds = all({part.kind for part in cell_parts} == set(cell.kinds) for cell, cell_parts in cells.items())
    has_paper_data = has_all_kinds and all(_is_published(part, sources) for part in parts)
    differing = changed - FREE_SETTINGS
    if preset == "paper" and size == study.size and has_paper_data:
        if not readings.departures(parts[0].plan.config) and differing <= set(readings.TEXT_SETTINGS):
            return "as in the paper"
        if not differing:
            return "the paper's size and data"
    return "NOT AS IN THE PAPER"


def _changed(cells: runs.Grid, preset: str) -> set[str]:
    """Return the settings that differ from the preset in any cell, except epochs and those that affect no number."""
    changed = set()
    for cell, parts in cells.items():
        usual = Config.of(cell.task, preset, **cell.settings).effective()
        requested = parts[0].plan.config.effective() if parts else {}
        changed |= {name for name in requested if requested[name] != usual.get(name)}
    return changed - {"epochs", *NOT_IDENTITY}


def _is_published(part: runs.Part, sources: Mapping[str, Path]) -> bool:
    """Return whether the clips are distinct recordings of one of the paper's data sets, without doubts about it."""
    source = sources.get(part.kind)
    if source is None or datasets.recognise(source) is None or datasets.doubts(source):
        return False
    return part.clips <= len(part.plan.recordings)


def _missing(parts: Sequence[runs.Part], found: Found) -> list[str]:
    """Return a line for each kind of sound with missing fits."""
    requested, done = Counter[str](), Counter(fit.kind for fits in found.values() for fit in fits)
    for part in parts:
        requested[part.kind] += part.clips
    missing = {kind: count - done[kind] for kind, count in requested.items() if done[kind] < count}
    return [f"missing: {count} of the {requested[kind]} fits of {kind}" for kind, count in missing.items()]


def _sounds(study: Study, parts: Sequence[runs.Part], sources: Mapping[str, Path]) -> list[str]:
    """Return lines on the origin of the clips and on doubts about them."""
    by_kind = {part.kind: part for part in parts}  # every cell has the same clips of a kind
    origins = []
    for kind in (kind for kind in KINDS if any(kind in cell.kinds for cell in study.cells)):
        if kind not in by_kind:
            origins.append(f"no {kind}")
            continue
        clips, recordings = by_kind[kind].clips, len(by_kind[kind].plan.recordings)
        few = f", {clips} clips of {counted(recordings, 'recording')}" if clips > recordings else ""
        unusable = by_kind[kind].skipped
        skipped = f", {counted(unusable, 'unusable recording')} skipped" if unusable else ""
        origins.append(f"{kind} {_origin(sources.get(kind))}{few}{skipped}")
    lines = [f"sounds: {'; '.join(origins)}"]
    lines += [doubt for kind in by_kind if kind in sources for doubt in datasets.doubts(sources[kind])]
    if study.claims and any(part.clips > len(part.plan.recordings) for part in parts):
        lines.append("the standard errors treat clips of the same recording as independent, which they are not")
    return lines


def _origin(source: Path | None) -> str:
    if source is None:
        return "from the bundled clips (synthetic, not the paper's data)"
    layout = datasets.recognise(source)
    return f"from {layout.name if layout else printable(source.resolve().name)}"


def _print_time_estimate(study: Study, cells: runs.Grid, report: ReportConfig) -> None:
    found: list[runs.Estimate] = []
    for estimate in runs.estimates(cells):
        found.append(estimate)
        if not (report.json or report.quiet):
            spent = format_duration(3600 * estimate.hours) if estimate.hours else "finished"
            print(f"{estimate.cell:<40}{1000 * estimate.seconds_per_epoch:>8.0f} ms per epoch  {spent}", flush=True)
    if not found:
        raise BadInput(f"{study.name}: no cell could be timed", code="job_failed")
    hours, (workers, _) = sum(estimate.hours for estimate in found), runs.side_by_side(cells)
    if report.json:
        timed = [estimate._asdict() for estimate in found]
        print(json_text({"title": study.title, "hours": hours, "side_by_side": workers, "cells": timed}))
    else:
        print(f"{study.name}: about {hours:.1f} h with {workers} parallel fits (parallel fits are slower)")
