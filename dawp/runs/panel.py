"""Run a panel: each row of a CSV file with its own settings."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dawp.config import Config
from dawp.errors import BadInput, printable
from dawp.groups import parse_settings
from dawp.io.files import safe_name, write_csv
from dawp.io.panels import Panel, PanelRow
from dawp.io.sources import Recording
from dawp.runs.experiment import Outcome, run_all
from dawp.runs.folder import Plan, run_folder
from dawp.runs.repetition import Draw

log = logging.getLogger(__name__)

KEYS = ("line", "file")
"""The first columns of the results of a panel."""


def row_configs(panel: Panel, config: Config, given: Mapping[str, Any], **places: Any) -> list[Config]:
    """Return the settings of each row: those of the command, changed by those of the row.

    Args:
        panel: the panel.
        config: all settings of the command.
        given: the settings that the command names.
        places: further settings; a function receives the row.

    Raises:
        BadInput: a row has a setting that does not exist or is out of bounds.
    """
    configs = []
    unused: dict[str, None] = {}
    try:
        parse_settings(config.task, dict.fromkeys(panel.columns, ""))
    except BadInput as refusal:
        raise BadInput(f"{panel.header}: {refusal}", code=refusal.code) from None
    for row in panel.rows:
        paths = {name: value(row) if callable(value) else value for name, value in places.items()}
        try:
            settings = parse_settings(config.task, row.settings)
            configs.append(Config.of(config.task, config.preset, **{**given, **settings, **paths}))
        except BadInput as refusal:
            raise BadInput(f"{row.where}: {refusal}", code=refusal.code) from None
        unused |= dict.fromkeys(settings.keys() - configs[-1].effective())
    for name in unused:
        log.info("column %s has no effect in one row or more", name)
    return configs


def check_places(rows: Sequence[PanelRow], places: Sequence[Sequence[Path]], results: Path) -> None:
    """Check that every row of a panel has files of its own, and that none lies inside another.

    Args:
        rows: of the panel.
        places: the files or folders that each row writes.
        results: the CSV file of the results.

    Raises:
        BadInput: two rows write the same file, or a file has to be a folder.
    """
    owners = {results: "the results"}
    for row, paths in zip(rows, places, strict=True):
        for path in paths:
            if path in owners:
                raise BadInput(
                    f"{row.where}: {printable(path)} is also written by {owners[path]} (name another place in the "
                    "columns panel or out)",
                    code="invalid_list",
                )
        owners |= dict.fromkeys(paths, f"line {row.line}")
    for row, paths in zip(rows, places, strict=True):
        for path in paths:
            if inside := [parent for parent in path.parents if parent in owners]:
                raise BadInput(
                    f"{row.where}: {printable(path)} lies inside {printable(inside[0])} of {owners[inside[0]]} (name "
                    "another place in the columns panel or out)",
                    code="invalid_list",
                )


def check_results(path: Path, header: Sequence[str], overwrite: bool) -> None:
    """Check that the CSV file of the results replaces no file but earlier results.

    Args:
        path: of the results.
        header: their first columns.
        overwrite: whether other files may be replaced.

    Raises:
        BadInput: it would.
    """
    if not path.exists() or overwrite:
        return
    try:
        with path.open(newline="", encoding="utf-8") as file:
            is_ours = next(csv.reader(file), [])[: len(header)] == list(header)
    except (OSError, ValueError, csv.Error):
        is_ours = False
    if not is_ours:
        raise BadInput(
            f"{printable(path)}: already exists and is not the results of a panel (use --overwrite to replace it)",
            code="output_exists",
        )


def run(
    panel: Panel,
    config: Config,
    given: Mapping[str, Any],
    draw: Draw,
    command: Sequence[str] = (),
    progress: bool = False,
) -> tuple[Outcome, list[Outcome]]:
    """Run each row of a panel as an experiment.

    The folder of a row is ``<output_dir>/<panel>/<task>/<out>``. ``<output_dir>/<name of the panel>_results.csv`` has
    a line for each repetition: line and file of the panel, the run's folder, and the columns of its summary.csv.

    Args:
        panel: the panel.
        config: all settings of the command.
        given: the settings that the command names.
        draw: called for a repetition whenever its files changed.
        command: the command line, for each config.json.
        progress: show a bar on standard error.

    Returns:
        The outcome of the panel, and that of each row.

    Raises:
        BadInput: a row cannot be run.
    """
    if config.run.name is not None:
        raise BadInput(f"name must be given by the column out of the panel, got {printable(config.run.name)}")
    base = config.run.output_dir
    configs = row_configs(
        panel,
        config,
        given,
        source=lambda row: row.path,
        output_dir=lambda row: base / row.panel,
        name=lambda row: row.out or safe_name(row.path.stem, longest=100),
    )
    plans = []
    for row, row_config in zip(panel.rows, configs, strict=True):
        is_corrupted = row_config.corruption.sources_are_corrupted
        plans.append(Plan(row_config, [Recording(None, row.path) if is_corrupted else Recording(row.path)]))
    folders = [run_folder(plan.config, plan.recordings) for plan in plans]
    results = base / panel.results
    check_places(panel.rows, [[folder] for folder in folders], results)
    check_results(results, KEYS, config.run.overwrite)
    outcomes = run_all(plans, draw, command, config.task if progress else None)
    _write_results(results, panel.rows, folders, outcomes)
    whole = Outcome(
        base,
        sum(outcome.done for outcome in outcomes),
        sum(outcome.skipped for outcome in outcomes),
        [failure for outcome in outcomes for failure in outcome.failures],
        [code for outcome in outcomes for code in outcome.failure_codes],
    )
    return whole, outcomes


def _write_results(path: Path, rows: Sequence[PanelRow], folders: Sequence[Path], outcomes: Sequence[Outcome]) -> None:
    lines: list[dict[str, Any]] = []
    for row, folder, outcome in zip(rows, folders, outcomes, strict=True):
        keys = {"line": row.line, "file": row.file, "run": folder.relative_to(path.parent).as_posix()}
        try:
            with (folder / "summary.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                lines += [{**keys, **summary} for summary in csv.DictReader(file)]
        except FileNotFoundError:
            lines.append({**keys, "error": "; ".join(outcome.failures)})
    header = list(dict.fromkeys([*KEYS, "run", *(name for line in lines for name in line)]))
    write_csv(path, header, [[line.get(name) for name in header] for line in lines])
