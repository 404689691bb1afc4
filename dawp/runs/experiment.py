"""Runs: many recordings or repetitions, each in a folder of its own, resumable, with a summary."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dawp.config import NOT_OF_THE_NUMBERS, Config, groups_of
from dawp.devices import pick_device
from dawp.errors import BadInput, FitDiverged, shown
from dawp.io import audio
from dawp.io.files import (
    OUTPUTS,
    RESULT,
    RUN_CONFIG,
    changed_at,
    check_writable,
    held,
    json_text,
    read_json,
    run_identity,
    safe_name,
    whole,
    write_csv,
    write_json,
)
from dawp.io.sources import Recording, sounds_at
from dawp.methods import baselines
from dawp.methods.deep_prior import checkpoints
from dawp.methods.deep_prior.fit import Epoch
from dawp.methods.deep_prior.solver import History, Result, describe, fit_ahead, solve
from dawp.methods.deep_prior.stopping import EMA
from dawp.parallel.jobs import Job, ProgressReporter
from dawp.parallel.progress import ProgressBars
from dawp.parallel.scheduler import run_jobs
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.runs.summary import rows, summarise
from dawp.tasks.base import make_problem

log = logging.getLogger(__name__)

SUMMARY = "summary.json"
NOT_IDENTITY = ("output_dir", "name", "overwrite", "experiment_repetition", "source", *NOT_OF_THE_NUMBERS)
"""Settings of a run that may differ when the same command goes on; the recordings stand for ``source``."""

PACKAGES = (
    *("torch", "torchaudio", "numpy", "scipy", "librosa", "pesq", "julius", "soundfile", "pyroomacoustics"),
    *("noisereduce", "nara_wpe"),
)

Draw = Callable[[Path, dict[str, Any]], None]
"""Draws the pictures of a repetition's folder, given the content of its result.json."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: the run's folder; None if no recording could be used, so that nothing was written.
        done: repetitions finished in this command.
        skipped: repetitions that an earlier command had finished.
        failures: one line for each repetition that was refused or diverged, now or in an earlier command.
    """

    folder: Path | None
    done: int
    skipped: int
    failures: list[str]


@dataclass(frozen=True)
class Plan:
    """A run to be.

    Attributes:
        config: all settings.
        recordings: cycled through in an order drawn from the seed.
        published: what a paper has for it, for its report: ``{"where": text, "values": {metric: {"best": number}}}``,
            with "gain" for "best" where that is what it has.
    """

    config: Config
    recordings: Sequence[Recording]
    published: dict[str, Any] | None = None


def run(
    config: Config, recordings: Sequence[Recording], draw: Draw, command: Sequence[str] = (), progress: bool = False
) -> Outcome:
    """Corrupt and restore the recordings, each repetition into its own folder; finished ones are left alone.

    Args:
        config: all settings.
        recordings: cycled through in an order drawn from the seed.
        draw: called for a repetition whenever its files changed.
        command: the command line, for config.json.
        progress: show a bar on standard error.

    Raises:
        BadInput: the device is not there, the folder cannot be written, or holds a run with other settings.
        KeyboardInterrupt: with the summary of the finished repetitions written; of the unfinished ones those with
            checkpoints stay.
    """
    (outcome,) = run_all([Plan(config, recordings)], draw, command, config.task if progress else None)
    return outcome


def run_all(plans: Sequence[Plan], draw: Draw, command: Sequence[str] = (), title: str | None = None) -> list[Outcome]:
    """Several runs at once, whose fits share the workers; see ``run``.

    Args:
        plans: with folders of their own; how the work is shared out, and the number of epochs, are those of the first.
        draw: called for a repetition whenever its files changed.
        command: the command line, for each config.json.
        title: of the progress bar; None for no bar.
    """
    runs = [_Run(plan, draw, command, alone=len(plans) == 1) for plan in plans]
    _warn_of_changes([pair for one in runs for pair in one.changed()])
    first = plans[0].config
    with ExitStack() as ending:
        for one in runs:
            ending.callback(one.end)
        bars = ending.enter_context(ProgressBars(sum(one.fits_left for one in runs), first.fit.epochs, title))

        def jobs() -> Iterator[_Repetition]:
            told = False
            for one in runs:
                for job in one.jobs(bars):
                    if not told:
                        counts = f"repetitions: {sum(r.count for r in runs)}, recordings: {sum(r.files for r in runs)}"
                        log.info("%s, device: %s", counts, said_device(first))
                        told = True
                    yield job

        over = ending.enter_context(
            closing(run_jobs(jobs(), first.work, first.fit.device, sum(one.fits for one in runs), bars))
        )
        for job, error, refusal in over:
            job.run.take(job.folder, error, refusal)
    return [one.outcome for one in runs]


class _Run:
    """A run that is under way.

    Raises:
        BadInput: it cannot be done, or not in its folder.
    """

    def __init__(self, plan: Plan, draw: Draw, command: Sequence[str], alone: bool) -> None:
        config = plan.config
        check_device(config)
        if config.metrics.baselines:
            baselines.check_installed(config.task)
        self._plan, self._draw, self._command, self._alone = plan, draw, command, alone
        self._folder = folder = run_folder(config, plan.recordings)
        check_writable(folder)
        self._repetitions = _plan(config, plan.recordings)
        _check_folder(folder, config, plan.recordings)
        if config.run.save_outputs and config.run.show_every > config.fit.epochs:
            epochs = config.fit.epochs
            log.warning("no outputs will be saved: show_every is %d, epochs %d", config.run.show_every, epochs)
        names = (recording.name for recording, _ in self._repetitions)
        self._places = [folder / f"{index:03d}_{name}" for index, name in enumerate(names)]
        places = () if config.run.overwrite else self._places
        self._earlier = {here: facts for here in places if (facts := finished(here))}
        self._failures = [f"{here.name}: {facts['error']}" for here, facts in self._earlier.items() if facts["error"]]
        self._done = 0
        self._reasons: dict[str, str] = {}  # of what was refused, by the repetition's folder
        self._usable: dict[str, bool] = {}  # whether a recording could be, by the folder of each that was looked at
        self._begun = self._refused = False
        self._going: set[Path] = set()
        self._hold = ExitStack()

    @property
    def count(self) -> int:
        """Repetitions."""
        return len(self._repetitions)

    @property
    def files(self) -> int:
        """Recordings."""
        return len(self._plan.recordings)

    @property
    def fits(self) -> int:
        return self.count * self._plan.config.stop.fits

    @property
    def fits_left(self) -> int:
        return (self.count - len(self._earlier)) * self._plan.config.stop.fits

    @property
    def outcome(self) -> Outcome:
        folder = self._folder if self._folder.exists() else None
        return Outcome(folder, self._done, len(self._earlier), self._failures)

    def changed(self) -> Iterator[tuple[Path, Path]]:
        """Inputs that are newer than a result which will not be made again, with the repetition's folder."""
        if not self._earlier:
            return
        given = [value for value in vars(self._plan.config.corruption).values() if isinstance(value, Path)]
        sounds: list[Path] = []  # that corrupt
        with suppress(BadInput):  # of a folder without sounds: refused where one is needed
            sounds = [path for source in given for path in sounds_at(source)]
        newest = sorted(sounds, key=changed_at)[-1:]
        for here, (recording, _) in zip(self._places, self._repetitions, strict=True):
            if here in self._earlier:
                inputs = [*recording.paths, *([] if recording.corrupted else newest)]
                yield from ((path, here) for path in inputs if changed_at(path) > changed_at(here / RESULT))

    def jobs(self, bars: ProgressBars) -> Iterator[_Repetition]:
        """The repetitions that are not finished yet."""
        config, fits = self._plan.config, self._plan.config.stop.fits
        for index, (here, (recording, turn)) in enumerate(zip(self._places, self._repetitions, strict=True)):
            if here in self._earlier:
                continue
            try:
                with memory_as_bad_input(shown(recording.path)):
                    problem = _pose(recording, config, index, turn)
            except BadInput as refusal:
                self._failures.append(str(refusal))
                self._reasons[here.name] = str(refusal)
                self._usable[here.name] = False
                log.error("%s", refusal)
                bars.skip_fits(fits)
                continue
            self._usable[here.name] = True
            if not self._begun:
                try:
                    _begin(self._folder, self._plan, self._command, self._hold)
                except BadInput as refusal:
                    self._refused = True
                    if self._alone:
                        raise
                    self._failures.append(str(refusal))  # the other runs go on
                    log.error("%s", refusal)
                    bars.skip_fits(fits * sum(there not in self._earlier for there in self._places[index:]))
                    return
                self._begun = True
            if not config.run.overwrite and (facts := finished(here)):  # by a command that has ended since
                self._earlier[here] = facts
                bars.skip_fits(fits)
                continue
            self._going.add(here)
            _make_room(here)
            name = here.name if self._alone else f"{self._folder.name}/{here.name}"
            args = (problem, recording, config, index, self._draw)
            yield _Repetition(name, here, _repeat, args, fits, run=self, checkpoints=checkpoints.found)

    def take(self, here: Path, error: str | None, refusal: BadInput | FitDiverged | None) -> None:
        """A repetition is over: with a result, perhaps of a fit that diverged, or refused."""
        self._done += refusal is None
        if refusal is None:
            checkpoints.clear(here)
            self._going.discard(here)
        if refusal:
            self._reasons[here.name] = str(refusal)
        if error or refusal:
            told = f"{'' if self._alone else f'{self._folder.name}/'}{error or refusal}"
            self._failures.append(told)
            log.error("%s", told)

    def end(self) -> None:
        """Tidy up, and summarise what is finished."""
        for here in self._going:
            if finished(here):  # which was not told any more
                checkpoints.clear(here)
            elif not checkpoints.found(here):
                shutil.rmtree(here, ignore_errors=True)
        folder = self._folder
        if folder.exists() and not self._refused:
            stays = self._plan.config.run.overwrite and not self._begun
            _summarise(folder, {} if stays else self._reasons, {} if stays else self._usable)
        self._hold.close()
        if self._begun and [path.name for path in folder.iterdir()] == [RUN_CONFIG]:  # nothing came of it
            (folder / RUN_CONFIG).unlink()
            folder.rmdir()


@dataclass(frozen=True, eq=False)
class _Repetition(Job):
    run: _Run


def run_folder(config: Config, recordings: Sequence[Recording]) -> Path:
    """``<output_dir>/<task>/<name>``; the name tells source, corruption, preset and a hash of all settings."""
    name = config.run.name
    if name is None:
        settings = json.dumps(_identity(config, recordings), sort_keys=True)
        source = safe_name(config.run.source.resolve().stem) if config.run.source else "samples"
        pairs = all(len(recording.paths) == 2 for recording in recordings)
        corruption = "pairs" if pairs else safe_name(config.corruption.label())
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        name = f"{source}-{corruption}-{config.preset}-{digest}"
    return config.run.output_dir / config.task / name


def note_published(folder: Path, published: dict[str, Any]) -> None:
    """Write what a paper has for a run into its config.json, if another command that had nothing began it."""
    about = read_json(folder / RUN_CONFIG)
    if not about.get("published"):
        write_json(folder / RUN_CONFIG, {**about, "published": published})


def _plan(config: Config, recordings: Sequence[Recording]) -> list[tuple[Recording, int]]:
    """Each repetition's recording, and how often that one has come up before."""
    order = torch.randperm(len(recordings), generator=seeded(config.fit.seed, "order")).tolist()
    count = config.run.experiment_repetition or len(recordings)
    return [(recordings[order[index % len(order)]], index // len(order)) for index in range(count)]


def finished(here: Path) -> dict[str, Any] | None:
    """What a repetition found, if it is finished: its result.json is there and whole."""
    try:
        facts: dict[str, Any] = read_json(here / RESULT)
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and "best" in facts else None


def repetition_folders(folder: Path) -> list[Path]:
    """The folders of a run's repetitions, finished or not, in order."""
    return sorted(
        (
            here
            for here in folder.iterdir()
            if re.match(r"\d{3,}_", here.name) and here.is_dir() and not here.is_symlink()
        ),
        key=lambda here: int(here.name.partition("_")[0]),
    )


def _pose(recording: Recording, config: Config, index: int, turn: int) -> Problem:
    """The problem of one repetition: read, and corrupted unless it is already."""
    clean, corrupted, rate = audio.read_clip(recording, config.clip, turn, config.corruption.missing)
    try:
        rng = seeded(config.fit.seed, "corruption", index)
        problem = make_problem(config.task, clean, corrupted, rate, config.corruption, rng)
        name = shown(recording.path)
        return dataclasses.replace(problem, name=f"{name}, clip {turn + 1}" if turn else name)
    except BadInput as refusal:
        raise BadInput(f"{shown(recording.path)}: {refusal}") from None


def _warn_of_changes(changed: Sequence[tuple[Path, Path]]) -> None:
    if changed:
        path, here = changed[0]
        more = f", and {len(changed) - 1} more like it" if changed[1:] else ""
        told = f"{shown(path)} is newer than its results in {shown(here)}{more}"
        log.warning("%s: if its sound is another, delete them, and the same command makes them again", told)


def _make_room(here: Path) -> None:
    """A repetition's folder, with nothing but the checkpoints that an interrupted command has left there."""
    here.mkdir(exist_ok=True)
    kept = checkpoints.found(here)
    if kept:
        kept.append(here / OUTPUTS)  # of the epochs before the checkpoint
    for path in here.iterdir():
        if path.is_dir() and not path.is_symlink():
            if path not in kept:
                shutil.rmtree(path)
        elif path not in kept:
            path.unlink()


def _repeat(
    here: Path,
    line: ProgressReporter,
    part: int | None,
    problem: Problem,
    recording: Recording,
    config: Config,
    index: int,
    draw: Draw,
) -> str | None:
    """One repetition into its folder, result.json last, or one of its fits; returns why it diverged, if it did."""
    kept = checkpoints.Checkpoints(here, line.saved)

    def on_epoch(step: Epoch, history: History) -> None:
        if step.epoch % config.run.show_every == 0:
            history.write(here / "metrics.csv")
            if config.run.save_outputs:
                (here / OUTPUTS).mkdir(exist_ok=True)
                output = here / OUTPUTS / f"epoch_{step.epoch:05d}.wav"
                audio.write(output, step.output, problem.sample_rate)
                line.saved(output)
            draw(here, {})

    with memory_as_bad_input(here.name):
        if not part:
            if problem.clean is not None:
                audio.write(here / "clean.wav", problem.clean, problem.sample_rate)
            audio.write(here / "corrupted.wav", problem.observed, problem.sample_rate)
            if problem.rir is not None:
                audio.write(here / "rir.wav", problem.rir, problem.sample_rate)
        if part is not None:
            fit_ahead(problem, config, index, part, line, None if part else on_epoch, kept)
            return None
        result = solve(problem, config, index, line, on_epoch, kept)
        _write_result(here, result, recording, index, draw)
    return None if result.error is None else f"{here.name}: {result.error}"


def _write_result(here: Path, result: Result, recording: Recording, index: int, draw: Draw) -> None:
    sounds = {f"best_{name}": best.waveform for name, best in result.best.items() if not name.startswith(EMA)}
    sounds |= {f"baseline_{name}": judged.waveform for name, judged in result.baselines.items()}
    if result.restored:
        sounds["restored"] = result.restored.waveform
    for name, waveform in sounds.items():
        if waveform is not None and waveform.isfinite().all():
            audio.write(here / f"{name}.wav", waveform, result.problem.sample_rate)
    result.history.write(here / "metrics.csv")
    weights = io.BytesIO()  # a full disk is an OSError then, which torch.save would make a RuntimeError
    torch.save(result.generator, weights)
    with whole(here / "generator.pt") as temporary:
        temporary.write_bytes(weights.getbuffer())
    facts = {
        "repetition": index,
        "recording": str(recording.path),
        "pair": str(recording.corrupted) if len(recording.paths) == 2 else None,
        **result.facts(),
    }
    draw(here, facts)
    write_json(here / RESULT, facts)


def _identity(config: Config, recordings: Sequence[Recording]) -> dict[str, Any]:
    """Everything that the numbers of a run depend on, as flat JSON values."""
    settings = {
        name: str(value.resolve()) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in config.effective().items()
        if name not in NOT_IDENTITY
    }
    if not (config.clip.align and any(len(recording.paths) == 2 for recording in recordings)):
        settings.pop("align", None)  # it has no effect, and earlier runs do not have it
    settings["recordings"] = [[str(path.resolve()) for path in recording.paths] for recording in recordings]
    return settings


def _check_folder(folder: Path, config: Config, recordings: Sequence[Recording]) -> None:
    """Refuse a run's folder that holds something else, or a run with other settings that is not to be overwritten."""
    if folder.is_symlink():
        raise BadInput(f"{shown(folder)}: is a link, not a run's folder")
    there = run_identity(folder)
    if there is None:
        if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise BadInput(f"{shown(folder)}: exists and is not a run's folder (it has no {RUN_CONFIG} of a run)")
        return
    if config.run.overwrite:
        inputs = [path for recording in recordings for path in recording.paths]
        if any(folder.resolve() in path.resolve().parents for path in inputs):
            raise BadInput(f"{shown(folder)}: holds recordings of this command, --overwrite would delete them")
        return
    asked = _identity(config, recordings)
    differing = [
        f"{name} is {shown(there.get(name))} there and {shown(asked.get(name))} here"
        for name in [*asked, *(there.keys() - asked.keys())]
        if there.get(name) != asked.get(name)
    ]
    if differing:
        raise BadInput(
            f"{shown(folder)}: holds a run with other settings: {'; '.join(differing)} "
            "(--overwrite deletes it, another --name keeps both)"
        )


def _begin(folder: Path, plan: Plan, command: Sequence[str], hold: ExitStack) -> None:
    """Make the run's folder with its config.json, emptied first if it is to be overwritten, and hold it."""
    config = plan.config
    try:
        if config.run.overwrite and run_identity(folder):
            # Out of the way in one step: whatever happens while it is deleted, no half of it stays in its place.
            old = folder.with_name(f".{secrets.token_hex(4)}.{folder.name}")
            with held(folder):
                folder.rename(old)
            shutil.rmtree(old)
        folder.mkdir(parents=True, exist_ok=True)
        hold.enter_context(held(folder))
        if not (folder / RUN_CONFIG).exists():
            about = {
                **circumstances(config, command),
                "begun": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "settings": {group: dataclasses.asdict(getattr(config, group)) for group in groups_of(config.task)},
                "identity": _identity(config, plan.recordings),
                "published": plan.published,
            }
            write_json(folder / RUN_CONFIG, about)
    except OSError as error:
        raise BadInput(f"{shown(folder)}: cannot be written ({error.strerror})") from None


def _summarise(folder: Path, reasons: Mapping[str, str], usable: Mapping[str, bool]) -> None:
    """summary.json and summary.csv from the repetitions that are finished, and why others were refused.

    Args:
        folder: of the run.
        reasons: why repetitions were refused, by name of the folder.
        usable: whether the recording of a repetition could be used, where this command has looked.
    """
    found = {here.name: facts for here in repetition_folders(folder) if (facts := finished(here))}
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
    """Why repetitions of a run were refused, by the name of the folder that each would have; from its summary.json."""
    try:
        return {str(name): str(why) for name, why in read_json(folder / SUMMARY)["refused"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or another's
        return {}


def unusable(folder: Path) -> set[int]:
    """The repetitions of a run whose recordings could not be used, from its summary.json."""
    numbers = (name.partition("_")[0] for name in _unusable(folder))
    return {int(number) for number in numbers if number.isdecimal()}


def _unusable(folder: Path) -> list[str]:
    try:
        return [str(name) for name in read_json(folder / SUMMARY)["unusable"]]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or another's
        return []


def circumstances(config: Config, command: Sequence[str]) -> dict[str, Any]:
    """What is to be known of a command beside its settings: versions, seed, device."""
    return {
        "task": config.task,
        "preset": config.preset,
        "seed": config.fit.seed,
        "device": said_device(config),
        "command": list(command),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


@contextmanager
def memory_as_bad_input(what: str) -> Iterator[None]:
    """Make running out of memory a refusal of one recording; torch's CPU allocator raises a plain RuntimeError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
            hint = "a shorter clip_length or a smaller network needs less"
            raise BadInput(f"{what}: out of memory; {hint}") from None
        raise


def check_device(config: Config) -> None:
    """Refuse a device that is not there; what the nodes of a cluster have is not known here."""
    if config.work.executor == "local":
        pick_device(config.fit.device)


def said_device(config: Config) -> str:
    """The device of a command, in words."""
    if config.work.executor == "ray":
        return f"{config.fit.device} of a Ray cluster's nodes"
    device = pick_device(config.fit.device)
    return describe(device) + (" (no CUDA here)" if config.fit.device == "auto" and device.type == "cpu" else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
