"""Restore or corrupt the recordings of a panel: each row of a CSV file with its own settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dawp.config import Config
from dawp.errors import BadInput, printable
from dawp.io.files import read_json, write_csv
from dawp.io.formats import FORMATS
from dawp.io.panels import Panel, PanelRow
from dawp.io.sources import SOUND_SUFFIXES
from dawp.restoration import corrupted, files
from dawp.restoration.targets import MAX_NAME_BYTES, Target, check_outputs, check_removed, output_of
from dawp.runs.experiment import Outcome
from dawp.runs.panel import KEYS, check_places, check_results, row_configs

HEADER = (*KEYS, "output", "status", "seconds", "removed_db", "error")


def run(
    panel: Panel,
    config: Config,
    given: Mapping[str, Any],
    command: Sequence[str] = (),
    progress: bool = False,
) -> Outcome:
    """Restore or corrupt each row of a panel, into ``<output>/<panel>/<out>``.

    With ``--restore``, ``<output>/<name of the panel>_results.csv`` has a line for each row: line and file of the
    panel, the output, whether it was restored, seconds and the level of the removed signal.

    Args:
        panel: the panel.
        config: all settings of the command.
        given: the settings that the command names.
        command: the command line, for the records.
        progress: show a progress bar on standard error.

    Raises:
        BadInput: a row cannot be restored, or an output cannot be written.
    """
    folder, rows = output_of(config), panel.rows
    for name, place in (("output", folder), ("save_removed", config.restoration.save_removed)):
        if place and (place.suffix.lower() in SOUND_SUFFIXES or place.exists()) and not place.is_dir():
            raise BadInput(f"{name} must be a folder for a panel, got {printable(place)}")
    configs = row_configs(panel, config, given)
    targets = [_target_of(row, config, folder) for row, config in zip(rows, configs, strict=True)]
    results = folder / panel.results
    places = [filter(None, (target.output, target.record, target.removed)) for target in targets]
    check_places(rows, [list(paths) for paths in places], results)
    check_outputs(config, targets)
    check_removed(config, targets)
    plans = list(zip(targets, configs, strict=True))
    if config.restoration.corrupt_only:
        return replace(corrupted.corrupt_all(plans), folder=folder)
    check_results(results, HEADER, config.run.overwrite)
    existing = {target.output for target in targets if target.output.exists() and not config.run.overwrite}
    errors: dict[Path, files.Failure] = {}
    outcome = files.restore_all(plans, command, progress, errors)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = zip(rows, targets, strict=True)
    write_csv(results, HEADER, [_result(row, target, folder, existing, errors) for row, target in pairs])
    return replace(outcome, folder=folder)


def _target_of(row: PanelRow, config: Config, folder: Path) -> Target:
    """Return the output of a row: ``out`` if it names a sound file, or the recording's name in the folder ``out``."""
    output_format = config.restoration.output_format
    names_file = Path(row.out).suffix.lower() in FORMATS
    place = Path(row.panel, row.out) if names_file else Path(row.panel, row.out, row.path.name)
    if output_format and not names_file:
        place = place.with_suffix(f".{output_format}")
    suffix = place.suffix.lower()
    if suffix not in FORMATS or (output_format and FORMATS[suffix] != output_format.upper()):
        expected = f"a file of the format {output_format}" if output_format else f"a file ({' '.join(FORMATS)})"
        raise BadInput(f"{row.where}: out must name {expected}, got {printable(place.name)}", code="invalid_list")
    if len(os.fsencode(place.name)) > MAX_NAME_BYTES:
        raise BadInput(f"{row.where}: out must have at most {MAX_NAME_BYTES} bytes, got {printable(place.name)}")
    removed = config.restoration.save_removed
    return Target(row.path, folder / place, removed / place if removed else None)


def _result(
    row: PanelRow, target: Target, folder: Path, existing: set[Path], errors: Mapping[Path, files.Failure]
) -> list[Any]:
    failure = errors.get(target.output)
    status = "failed" if failure else "skipped" if target.output in existing else "restored"
    record: dict[str, Any] = {}
    if not failure:
        try:
            record = read_json(target.record)
        except (OSError, ValueError):  # deleted after an earlier command
            record = {}
    removed = (record.get("removed") or {}).get("db")
    output = target.output.relative_to(folder).as_posix()
    return [row.line, row.file, output, status, record.get("seconds"), removed, failure]
