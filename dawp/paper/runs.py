"""The runs of a study: made, done, and what they found."""

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
WARM_UP, TIMED = 3, 6  # epochs before, and during, the measurement of their time
MOST_CLIPS = 10**6


class Part(NamedTuple):
    """The clips of one kind in a cell: a run, of which the first so many repetitions count."""

    kind: str
    plan: Plan
    clips: int

    @property
    def folder(self) -> Path:
        return run_folder(self.plan.config, self.plan.recordings)

    @property
    def repetitions(self) -> list[int]:
        """Those that count: the first but for those known to have a recording that cannot be used, if others can."""
        passed_over = unusable(self.folder)
        there = range(max(self.clips, len(self.plan.recordings)))
        return [number for number in there if number not in passed_over][: self.clips]

    @property
    def needed(self) -> int:
        """How many repetitions come up until these are enough."""
        counting, recordings = self.repetitions, len(self.plan.recordings)
        return counting[-1] + 1 if len(counting) == self.clips else max(self.clips, recordings)

    @property
    def passed_over(self) -> int:
        """How many recordings of these cannot be used."""
        numbers = (number for number in unusable(self.folder) if number < self.needed)
        return len({number % len(self.plan.recordings) for number in numbers})


Grid = Mapping[Cell, Sequence[Part]]
"""By cell; a cell may have no parts, where its kinds of sound are left out, but never all of them."""


def grid(study: Study, preset: str, sources: Mapping[str, Path], clips: int, given: Mapping[str, Any]) -> Grid:
    """All runs of a study.

    Args:
        study: the table or figure.
        preset: of settings.
        sources: by kind of sound, where its recordings are; a kind that is not in it is left out. Of all kinds the
            bundled clips if it is empty.
        clips: of each cell, shared out evenly among its kinds.
        given: settings that differ from the preset; a cell's own go before them.

    Raises:
        BadInput: a source cannot be used, or a setting, one recording is of two kinds, or there are to be no clips.
    """
    if not 1 <= clips <= MOST_CLIPS:
        raise BadInput(f"clips must be a whole number from 1 to {MOST_CLIPS}, got {clips}")
    for name, value in given.items():
        if name in study.own_settings:
            raise BadInput(f"{name} is set by {study.name} itself in every cell, got {printable(text_of(value))}")
    asked = sources or {kind: SAMPLES / name for kind, name in BUNDLED.items()}
    kinds = {kind for cell in study.cells for kind in cell.kinds}
    paths = {kind: path for kind, path in asked.items() if kind in kinds}
    recordings = {kind: datasets.find(kind, path) for kind, path in paths.items()}
    _check_kinds(recordings)
    made: dict[Cell, list[Part]] = {}
    for cell in study.cells:
        made[cell] = []
        named = [kind for kind in cell.kinds if kind in paths]
        for place, kind in enumerate(named):
            count = clips // len(named) + (place < clips % len(named))
            if not count:
                continue
            epochs = {"epochs": study.epochs} if preset == "paper" else {}
            settings = {**epochs, **given, **cell.settings}
            own = {"source": paths[kind], "experiment_repetition": count}
            config = Config.of(cell.task, preset, **settings, **own)
            plan = Plan(config, recordings[kind], _published(study, cell) if preset == "paper" else None)
            made[cell].append(Part(kind, plan, count))
    return made


def _check_kinds(recordings: Mapping[str, Sequence[Recording]]) -> None:
    """Refuse a recording that is to be of two kinds of sound: a cell would count its fits twice."""
    kinds: dict[Path, str] = {}
    for kind, found in recordings.items():
        for path in (recording.path.resolve() for recording in found):
            if kinds.setdefault(path, kind) != kind:
                both = " and ".join(sorted((kind, kinds[path])))
                raise BadInput(
                    f"{both} both have {printable(path)}: a recording is of one kind of sound; "
                    "name the recordings of each by themselves, or one kind alone"
                )


def do(cells: Grid, title: str, command: Sequence[str]) -> list[str]:
    """Do what is not finished yet; returns a line for each repetition that failed.

    A recording that cannot be used is told, and passed over for the next one that has not come up.
    """
    failures: dict[str, None] = {}
    done: dict[Path, int] = {}
    while plans := _to_do(cells, done):
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


def _to_do(cells: Grid, done: Mapping[Path, int]) -> dict[Path, Plan]:
    """By folder the runs of which more repetitions are needed than a command has done."""
    plans: dict[Path, Plan] = {}
    needed: dict[Path, int] = {}  # cells of several studies, or of one, may share a run
    for part in (part for parts in cells.values() for part in parts):
        count = part.needed
        if count > needed.get(part.folder, done.get(part.folder, 0)):
            config = part.plan.config
            more = replace(config, run=replace(config.run, experiment_repetition=count))
            needed[part.folder], plans[part.folder] = count, replace(part.plan, config=more)
    return plans


def collect(cells: Grid) -> Found:
    """What is finished of each cell."""
    return {cell: list(_found(parts)) for cell, parts in cells.items()}


def _found(parts: Sequence[Part]) -> Iterator[Fit]:
    """Those that restored anything: a fit that diverged at once did not."""
    for part in parts:
        counting = part.repetitions
        for repetition_dir in repetition_folders(part.folder) if part.folder.is_dir() else ():
            facts = finished(repetition_dir)
            if facts and facts["best"] and facts["repetition"] in counting:
                yield Fit(part.kind, repetition_dir, facts)


class Estimate(NamedTuple):
    """What a cell's fits will take."""

    cell: str
    seconds_per_epoch: float
    hours: float


def estimates(cells: Grid) -> Iterator[Estimate]:
    """Time a few epochs of each network, in a fit by itself, and say what all that is not finished yet will take.

    A cell that cannot be timed is told and left out.
    """
    known: dict[Any, float] = {}
    workers, threads = side_by_side(cells)
    for cell, parts in cells.items():
        if not parts:
            continue
        left = sum(part.clips for part in parts) - len(list(_found(parts)))
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
        hours = known[key] * config.fit.epochs * config.stop.fits * left / workers / 3600
        yield Estimate(cell.title, known[key], hours)


def side_by_side(cells: Grid) -> tuple[int, int]:
    """How many fits of a study run at the same time, and the threads of each."""
    parts = [part for of_cell in cells.values() for part in of_cell]
    config = parts[0].plan.config
    return allocate_workers(
        config.work, pick_device(config.fit.device), sum(part.clips for part in parts) * config.stop.fits
    )


def _seconds(problem: Problem, config: Config) -> float:
    """Of an epoch, with its metrics, and its share of PESQ, which may be that of every so many epochs only."""
    every = config.metrics.pesq_every
    with_pesq = _seconds_of(problem, replace(config, metrics=replace(config.metrics, pesq_every=1)))
    if every == 1:
        return with_pesq
    never = replace(config, metrics=replace(config.metrics, pesq_every=WARM_UP + TIMED + 1))
    without = _seconds_of(problem, never)
    return without + (with_pesq - without) / every


def _first_problem(parts: Sequence[Part]) -> Problem:
    """Return the problem of the first recording that can be used."""
    config = parts[0].plan.config
    for recording in (recording for part in parts for recording in part.plan.recordings):
        try:
            return make_problem_of(recording, config)
        except BadInput as error:
            refusal = error
    raise refusal


def _seconds_of(problem: Problem, config: Config) -> float:
    one_fit = replace(config.stop, fits=1, patience=None)  # which has all of its epochs
    config = replace(config, fit=replace(config.fit, epochs=WARM_UP + TIMED), stop=one_fit)
    stamps: list[float] = []
    result = solve(problem, config, on_epoch=lambda *_: stamps.append(time.perf_counter()))
    if result.error is not None:
        raise BadInput(result.error)
    taken = [after - before for before, after in pairwise(stamps)]
    return statistics.fmean(taken[WARM_UP - 1 :])


def _published(study: Study, cell: Cell) -> dict[str, Any] | None:
    """The paper's numbers of a cell as a run's report takes them."""
    if not cell.published:
        return None
    values: dict[str, dict[str, float]] = {}
    for measure in study.measures:
        if measure.title in cell.published:
            values.setdefault(measure.metric, {})[measure.what] = cell.published[measure.title]
    return {"where": f"{study.title}; {cell.title}", "values": values}
