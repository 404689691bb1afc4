"""The folder of a run: its name, the checks before it is used, and its results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dawp.config import Config
from dawp.errors import BadInput, printable
from dawp.groups import NOT_OF_THE_NUMBERS
from dawp.io.files import (
    OUTPUTS,
    RESULT,
    RUN_CONFIG,
    exclusive_lock,
    json_text,
    read_json,
    run_identity,
    safe_name,
    write_csv,
    write_json,
)
from dawp.io.sources import Recording
from dawp.methods.deep_prior import checkpoints
from dawp.metrics.summary import rows, summarise
from dawp.runs.environment import environment

SUMMARY = "summary.json"
NOT_IDENTITY = ("output_dir", "name", "overwrite", "experiment_repetition", "source", *NOT_OF_THE_NUMBERS)
"""Settings that may differ when a run resumes. The identity lists the recordings instead of ``source``."""


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        config: all settings.
        recordings: used in turn, in an order drawn from the seed.
        published: results of a paper to show in the report, as
            ``{"where": text, "values": {metric: {"best": number}}}``, with "gain" instead of "best" for gains.
    """

    config: Config
    recordings: Sequence[Recording]
    published: dict[str, Any] | None = None


def run_folder(config: Config, recordings: Sequence[Recording]) -> Path:
    """Return ``<output_dir>/<task>/<name>``; the default name is source, corruption, preset and a hash of settings."""
    name = config.run.name
    if name is None:
        settings = json.dumps(_identity(config, recordings), sort_keys=True)
        source = safe_name(config.run.source.resolve().stem) if config.run.source else "samples"
        pairs = all(len(recording.paths) == 2 for recording in recordings)
        corruption = "pairs" if pairs else safe_name(config.corruption.label())
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        name = f"{source}-{corruption}-{config.preset}-{digest}"
    return config.run.output_dir / config.task / name


def _identity(config: Config, recordings: Sequence[Recording]) -> dict[str, Any]:
    """Return all values that the numbers of a run depend on, as a flat JSON object."""
    settings = {
        name: str(value.resolve()) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in config.effective().items()
        if name not in NOT_IDENTITY
    }
    if not (config.clip.align and any(len(recording.paths) == 2 for recording in recordings)):
        settings.pop("align", None)  # no effect, and absent from runs of earlier versions
    settings["recordings"] = [[str(path.resolve()) for path in recording.paths] for recording in recordings]
    return settings


def check_folder(folder: Path, config: Config, recordings: Sequence[Recording]) -> None:
    """Check that a folder is empty, or has the same run or one that may be overwritten.

    Raises:
        BadInput: the folder cannot be used.
    """
    if folder.is_symlink():
        raise BadInput(f"{printable(folder)}: is a link, not a run's folder", code="output_exists")
    there = run_identity(folder)
    if there is None:
        if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise BadInput(
                f"{printable(folder)}: exists and is not a run's folder (it has no {RUN_CONFIG} of a run)",
                code="output_exists",
            )
        return
    if config.run.overwrite:
        inputs = [path for recording in recordings for path in recording.paths]
        if any(folder.resolve() in path.resolve().parents for path in inputs):
            raise BadInput(
                f"{printable(folder)}: has recordings of this command, which --overwrite would delete",
                code="output_exists",
            )
        return
    requested = _identity(config, recordings)
    differing = [
        f"{name} is {printable(there.get(name))} in the folder and {printable(requested.get(name))} in this command"
        for name in [*requested, *(there.keys() - requested.keys())]
        if there.get(name) != requested.get(name)
    ]
    if differing:
        raise BadInput(
            f"{printable(folder)}: has a run with other settings: {'; '.join(differing)} "
            "(--overwrite deletes it, another --name keeps both)",
            code="output_exists",
        )


def start(folder: Path, plan: Plan, command: Sequence[str], lock: ExitStack) -> None:
    """Make the folder of a run with its config.json, and lock it. With ``--overwrite``, delete the old folder first."""
    config = plan.config
    try:
        if config.run.overwrite and run_identity(folder):
            # Rename it first, so that an interruption leaves no partly deleted run in its place.
            old = folder.with_name(f".{secrets.token_hex(4)}.{folder.name}")
            with exclusive_lock(folder):
                folder.rename(old)
            shutil.rmtree(old)
        folder.mkdir(parents=True, exist_ok=True)
        lock.enter_context(exclusive_lock(folder))
        if not (folder / RUN_CONFIG).exists():
            about = {
                **environment(config, command),
                "begun": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "settings": {key: dataclasses.asdict(group) for key, group in config.groups.items()},
                "identity": _identity(config, plan.recordings),
                "published": plan.published,
            }
            write_json(folder / RUN_CONFIG, about)
    except OSError as error:
        raise BadInput(f"{printable(folder)}: cannot be written ({error.strerror})", code="io_error") from None


def note_published(folder: Path, published: dict[str, Any]) -> None:
    """Write the results of a paper into config.json, if the command that started the run had none."""
    about = read_json(folder / RUN_CONFIG)
    if not about.get("published"):
        write_json(folder / RUN_CONFIG, {**about, "published": published})


def repetition_folders(folder: Path) -> list[Path]:
    """Return the folders of the repetitions of a run, finished or not, in order."""
    return sorted(
        (
            repetition_dir
            for repetition_dir in folder.iterdir()
            if re.match(r"\d{3,}_", repetition_dir.name) and repetition_dir.is_dir() and not repetition_dir.is_symlink()
        ),
        key=lambda repetition_dir: int(repetition_dir.name.partition("_")[0]),
    )


def finished(repetition_dir: Path) -> dict[str, Any] | None:
    """Return the content of result.json; None if the repetition is not finished."""
    try:
        facts: dict[str, Any] = read_json(repetition_dir / RESULT)
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and "best" in facts else None


def clear_unfinished(repetition_dir: Path) -> None:
    """Make the folder of a repetition, and delete all files of an interrupted command except its checkpoints."""
    repetition_dir.mkdir(exist_ok=True)
    kept = checkpoints.found(repetition_dir)
    if kept:
        kept.append(repetition_dir / OUTPUTS)  # of the epochs before the checkpoint
    for path in repetition_dir.iterdir():
        if path.is_dir() and not path.is_symlink():
            if path not in kept:
                shutil.rmtree(path)
        elif path not in kept:
            path.unlink()


def write_summary(folder: Path, reasons: Mapping[str, str], usable: Mapping[str, bool]) -> None:
    """Write summary.json and summary.csv from the finished repetitions, and the reasons of refusals.

    Args:
        folder: of the run.
        reasons: why this command refused repetitions, by name of the folder.
        usable: whether the recording of a repetition can be used, as far as this command has read it.
    """
    found = {
        repetition_dir.name: facts
        for repetition_dir in repetition_folders(folder)
        if (facts := finished(repetition_dir))
    }
    if not found:
        return
    refused = {name: why for name, why in {**refusals(folder), **reasons}.items() if name not in found}
    known = {**dict.fromkeys(_unusable(folder), False), **usable}
    unusable = [name for name in sorted(refused) if not known.get(name, True)]
    results = list(found.values())
    summary = {**summarise(results), "refused": dict(sorted(refused.items())), "unusable": unusable}
    there = folder / SUMMARY
    if not there.exists() or there.read_text(encoding="utf-8") != f"{json_text(summary)}\n":
        write_csv(folder / "summary.csv", *rows(results))
        write_json(there, summary)


def refusals(folder: Path) -> dict[str, str]:
    """Return the reasons of refused repetitions in summary.json, by name of the folder."""
    try:
        return {str(name): str(why) for name, why in read_json(folder / SUMMARY)["refused"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no file, or one of another kind
        return {}


def unusable(folder: Path) -> set[int]:
    """Return the indices of the repetitions whose recordings could not be used, from summary.json."""
    numbers = (name.partition("_")[0] for name in _unusable(folder))
    return {int(number) for number in numbers if number.isdecimal()}


def _unusable(folder: Path) -> list[str]:
    try:
        return [str(name) for name in read_json(folder / SUMMARY)["unusable"]]
    except (OSError, ValueError, KeyError, TypeError):  # no file, or one of another kind
        return []
