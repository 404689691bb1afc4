"""Plan and run the fits of a study, and collect their results."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from dawp.config import Config
from dawp.devices import pick_device
from dawp.errors import BadInput, printable
from dawp.io.sources import SAMPLES, Recording
from dawp.methods.deep_prior.solver import solve
from dawp.paper import datasets
from dawp.paper.study import Cell, Fit, Found, Study
from dawp.parallel.allocation import allocate_workers, torch_threads
from dawp.problem import Problem
from dawp.report.page import is_stale, write_report
from dawp.report.pictures import draw_nothing, draw_repetition
from dawp.runs import experiment
from dawp.runs.folder import Plan, finished, note_published, repetition_folders, run_folder, unusable
from dawp.runs.repetition import make_problem_of
from dawp.settings import text_of

log = logging.getLogger(__name__)

BUNDLED = {"speech": "speech.wav", "singing": "singing.wav", "instruments": "guitar.wav"}
WARM_UP, TIMED = 3, 6  # epochs before and during timing
MAX_CLIPS = 10**6


class Part(NamedTuple):
    """The clips of one kind of sound in a cell: the first ``clips`` usable repetitions of a run."""

    kind: str
    plan: Plan
    clips: int

    @property
    def folder(self) -> Path:
        return run_folder(self.plan.config, self.plan.recordings)

    @property
    def repetitions(self) -> list[int]:
        """The first ``clips`` repetitions whose recordings are not known to be unusable."""
        skipped = unusable(self.folder)
        numbers = range(max(self.clips, len(self.plan.recordings)))
        return [number for number in numbers if number not in skipped][: self.clips]

    @property
    def needed(self) -> int:
        """Number of repetitions to run to obtain ``clips`` usable ones."""
        counting, recordings = self.repetitions, len(self.plan.recordings)
        return counting[-1] + 1 if len(counting) == self.clips else max(self.clips, recordings)

    @property
    def skipped(self) -> int:
        """Number of unusable recordings among the repetitions needed."""
        numbers = (number for number in unusable(self.folder) if number < self.needed)
        return len({number % len(self.plan.recordings) for number in numbers})


Grid = Mapping[Cell, Sequence[Part]]
"""Parts by cell. A cell has no parts if all its kinds of sound are left out; at least one cell has parts."""


def grid(study: Study, preset: str, sources: Mapping[str, Path], clips: int, given: Mapping[str, Any]) -> Grid:
    """Plan all runs of a study.

    Args:
        study: the table or figure.
        preset: name of a preset.
        sources: path of the recordings by kind of sound; missing kinds are left out. If empty, use the bundled clips
            for all kinds.
        clips: number of clips per cell, split evenly between its kinds of sound.
        given: settings that differ from the preset; the settings of a cell take precedence.

    Raises:
        BadInput: an invalid source, setting or number of clips, or one recording of two kinds.
    """
    if not 1 <= clips <= MAX_CLIPS:
        raise BadInput(f"clips must be a whole number from 1 to {MAX_CLIPS}, got {clips}")
    for name, value in given.items():
        if name in study.own_settings:
            value_text = printable(text_of(value))
            raise BadInput(f"{name} must not be given for {study.name}, which sets it in every cell, got {value_text}")
    chosen = sources or {kind: SAMPLES / name for kind, name in BUNDLED.items()}
    kinds = {kind for cell in study.cells for kind in cell.kinds}
    paths = {kind: path for kind, path in chosen.items() if kind in kinds}
    recordings = {kind: datasets.find(kind, path) for kind, path in paths.items()}
    _check_kinds(recordings)
    cells: dict[Cell, list[Part]] = {}
    for cell in study.cells:
        cells[cell] = []
        present = [kind for kind in cell.kinds if kind in paths]
        for index, kind in enumerate(present):
            count = clips // len(present) + (index < clips % len(present))
            if not count:
                continue
            epochs = {"epochs": study.epochs} if preset == "paper" else {}
            settings = {**epochs, **given, **cell.settings}
            clips_of_kind = {"source": paths[kind], "experiment_repetition": count}
            config = Config.of(cell.task, preset, **settings, **clips_of_kind)
            plan = Plan(config, recordings[kind], _published(study, cell) if preset == "paper" else None)
            cells[cell].append(Part(kind, plan, count))
    return cells


def _check_kinds(recordings: Mapping[str, Sequence[Recording]]) -> None:
    """Refuse a recording given for two kinds of sound: a cell would count its fits twice."""
    kinds: dict[Path, str] = {}
    for kind, found in recordings.items():
        for path in (recording.path.resolve() for recording in found):
            if kinds.setdefault(path, kind) != kind:
                both = " and ".join(sorted((kind, kinds[path])))
                raise BadInput(f"{both} must not share recordings, got {printable(path)} for both")


def run_study(cells: Grid, title: str, command: Sequence[str]) -> list[str]:
    """Run the unfinished fits of a study and return a line for each failed repetition.

    An unusable recording is reported and replaced by the next unused one.
    """
    failures: dict[str, None] = {}
    done: dict[Path, int] = {}
    while plans := _pending(cells, done):
        config = next(iter(plans.values())).config
        draw = draw_repetition if config.report.pictures else draw_nothing
        outcomes = experiment.run_all(list(plans.values()), draw, command, None if config.report.quiet else title)
        for outcome, (folder, plan) in zip(outcomes, plans.items(), strict=True):
            done[folder] = plan.config.run.experiment_repetition or 0
            failures |= dict.fromkeys(outcome.failures)
            if outcome.folder and plan.published:
                note_published(outcome.folder, plan.published)
            if outcome.folder and config.report.report and is_stale(outcome.folder):
                write_report(outcome.folder)
    return list(failures)


def _pending(cells: Grid, done: Mapping[Path, int]) -> dict[Path, Plan]:
    """Return by folder the runs that need more repetitions than ``done`` states."""
    plans: dict[Path, Plan] = {}
    needed: dict[Path, int] = {}  # cells may share a run
    for part in (part for parts in cells.values() for part in parts):
        count = part.needed
        if count > needed.get(part.folder, done.get(part.folder, 0)):
            config = part.plan.config
            more = replace(config, run=replace(config.run, experiment_repetition=count))
            needed[part.folder], plans[part.folder] = count, replace(part.plan, config=more)
    return plans


def collect(cells: Grid) -> Found:
    """Return the finished fits of each cell."""
    return {cell: list(_found(parts)) for cell, parts in cells.items()}


def _found(parts: Sequence[Part]) -> Iterator[Fit]:
    """Yield the finished fits that have a best value: a fit that diverged in its first epoch has none."""
    for part in parts:
        counting = part.repetitions
        for repetition_dir in repetition_folders(part.folder) if part.folder.is_dir() else ():
            facts = finished(repetition_dir)
            if facts and facts["best"] and facts["repetition"] in counting:
                yield Fit(part.kind, repetition_dir, facts)


class Estimate(NamedTuple):
    """Estimated duration of the unfinished fits of a cell."""

    cell: str
    seconds_per_epoch: float
    hours: float


def estimates(cells: Grid) -> Iterator[Estimate]:
    """Time a few epochs of each network and yield the estimated duration of each cell's unfinished fits.

    A cell that cannot be timed is reported and left out.
    """
    known: dict[Any, float] = {}
    workers, threads = side_by_side(cells)
    for cell, parts in cells.items():
        if not parts:
            continue
        unfinished = sum(part.clips for part in parts) - len(list(_found(parts)))
        config = parts[0].plan.config
        key = (cell.task, config.generator, config.generator_settings)
        try:
            problem = _first_problem(parts)
            if key not in known:
                with torch_threads(threads):
                    known[key] = _seconds(problem, config)
        except BadInput as refusal:
            log.error("%s: %s", cell.title, refusal)
            continue
        hours = known[key] * config.fit.epochs * config.stop.fits * unfinished / workers / 3600
        yield Estimate(cell.title, known[key], hours)


def side_by_side(cells: Grid) -> tuple[int, int]:
    """Return the number of parallel fits of a study and the threads of each."""
    parts = [part for cell_parts in cells.values() for part in cell_parts]
    config = parts[0].plan.config
    return allocate_workers(
        config.work, pick_device(config.fit.device), sum(part.clips for part in parts) * config.stop.fits
    )


def _seconds(problem: Problem, config: Config) -> float:
    """Return the mean seconds per epoch with metrics; PESQ counts once every ``pesq_every`` epochs."""
    every = config.metrics.pesq_every
    with_pesq = _measure_seconds(problem, replace(config, metrics=replace(config.metrics, pesq_every=1)))
    if every == 1:
        return with_pesq
    never = replace(config, metrics=replace(config.metrics, pesq_every=WARM_UP + TIMED + 1))
    without = _measure_seconds(problem, never)
    return without + (with_pesq - without) / every


def _first_problem(parts: Sequence[Part]) -> Problem:
    """Return the problem of the first usable recording."""
    config = parts[0].plan.config
    for recording in (recording for part in parts for recording in part.plan.recordings):
        try:
            return make_problem_of(recording, config)
        except BadInput as error:
            refusal = error
    raise refusal


def _measure_seconds(problem: Problem, config: Config) -> float:
    """Return the mean seconds of an epoch of one fit."""
    one_fit = replace(config.stop, fits=1, patience=None)  # no early end
    config = replace(config, fit=replace(config.fit, epochs=WARM_UP + TIMED), stop=one_fit)
    stamps: list[float] = []
    result = solve(problem, config, on_epoch=lambda *_: stamps.append(time.perf_counter()))
    if result.error is not None:
        raise BadInput(result.error, code="fit_diverged")
    durations = [after - before for before, after in pairwise(stamps)]
    return statistics.fmean(durations[WARM_UP - 1 :])


def _published(study: Study, cell: Cell) -> dict[str, Any] | None:
    """Return the paper's values of a cell in the format of ``Plan.published``."""
    if not cell.published:
        return None
    values: dict[str, dict[str, float]] = {}
    for measure in study.measures:
        if measure.title in cell.published:
            values.setdefault(measure.metric, {})[measure.what] = cell.published[measure.title]
    return {"where": f"{study.title}; {cell.title}", "values": values}
