"""One repetition of a run: make its problem, fit it, and write its results."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dawp.config import Config
from dawp.devices import memory_as_bad_input
from dawp.errors import BadInput, printable, with_context
from dawp.io import audio
from dawp.io.files import OUTPUTS, RESULT, atomic_write, write_json
from dawp.io.sources import Recording
from dawp.methods.deep_prior import checkpoints
from dawp.methods.deep_prior.fit import Epoch
from dawp.methods.deep_prior.history import History
from dawp.methods.deep_prior.result import Result
from dawp.methods.deep_prior.solver import fit_ahead, solve
from dawp.metrics.base import OUTPUT, Measurement
from dawp.parallel.jobs import ProgressReporter
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.tasks.base import make_problem

Draw = Callable[[Path, dict[str, Any]], None]
"""Draws the pictures of a repetition into its folder, given the content of result.json."""


def make_problem_of(recording: Recording, config: Config, index: int = 0, segment_index: int = 0) -> Problem:
    """Read a clip of a recording, corrupt it unless it is corrupted already, and return the problem.

    Args:
        recording: one file or a pair.
        config: all settings.
        index: of the repetition; selects the stream of random draws.
        segment_index: which segment of the recording to use (see ``audio.read_clip``).

    Raises:
        BadInput: the recording cannot be used; the message begins with its name.
    """
    clean, corrupted, rate = audio.read_clip(recording, config.clip, segment_index, config.corruption.missing)
    try:
        rng = seeded(config.fit.seed, "corruption", index)
        problem = make_problem(config.task, clean, corrupted, rate, config.corruption, rng)
        name = printable(recording.path)
        return dataclasses.replace(problem, name=f"{name}, clip {segment_index + 1}" if segment_index else name)
    except BadInput as refusal:
        raise with_context(refusal, printable(recording.path)) from None


def repeat(
    repetition_dir: Path,
    reporter: ProgressReporter,
    part: int | None,
    problem: Problem,
    recording: Recording,
    config: Config,
    index: int,
    draw: Draw,
) -> str | None:
    """Run a repetition, or one of its fits, and write its results; result.json is written last.

    Args:
        repetition_dir: folder of the repetition.
        reporter: receives the progress of the fits.
        part: the fit to run ahead of the others; None to run the remaining fits and write the results.
        problem: to solve.
        recording: the recording of the problem.
        config: all settings.
        index: of the repetition.
        draw: called when the files have changed.

    Returns:
        Why a fit diverged; None if none did.
    """
    kept = checkpoints.Checkpoints(repetition_dir, reporter.saved)

    def on_epoch(step: Epoch, history: History) -> None:
        if step.epoch % config.run.show_every == 0:
            history.write(repetition_dir / "metrics.csv")
            if config.run.save_outputs:
                (repetition_dir / OUTPUTS).mkdir(exist_ok=True)
                output = repetition_dir / OUTPUTS / f"epoch_{step.epoch:05d}.wav"
                audio.write(output, step.output, problem.sample_rate)
                reporter.saved(output)
            draw(repetition_dir, {})

    with memory_as_bad_input(repetition_dir.name, "clip_length"):
        if not part:
            if problem.clean is not None:
                audio.write(repetition_dir / "clean.wav", problem.clean, problem.sample_rate)
            audio.write(repetition_dir / "corrupted.wav", problem.observed, problem.sample_rate)
            if problem.rir is not None:
                audio.write(repetition_dir / "rir.wav", problem.rir, problem.sample_rate)
        if part is not None:
            fit_ahead(problem, config, index, part, reporter, None if part else on_epoch, kept)
            return None
        result = solve(problem, config, index, reporter, on_epoch, kept)
        _write_result(repetition_dir, result, recording, index, draw)
    return None if result.error is None else f"{repetition_dir.name}: {result.error}"


def _write_result(repetition_dir: Path, result: Result, recording: Recording, index: int, draw: Draw) -> None:
    of_output = {name: best for name, best in result.best.items() if Measurement.parse(name).estimate == OUTPUT}
    sounds = {f"best_{name}": best.waveform for name, best in of_output.items()}
    sounds |= {f"baseline_{name}": evaluation.waveform for name, evaluation in result.baselines.items()}
    if result.restored:
        sounds["restored"] = result.restored.waveform
    for name, waveform in sounds.items():
        if waveform is not None and waveform.isfinite().all():
            audio.write(repetition_dir / f"{name}.wav", waveform, result.problem.sample_rate)
    result.history.write(repetition_dir / "metrics.csv")
    weights = io.BytesIO()  # torch.save raises RuntimeError where a disk is full
    torch.save(result.generator, weights)
    with atomic_write(repetition_dir / "generator.pt") as temporary:
        temporary.write_bytes(weights.getbuffer())
    facts = {
        "repetition": index,
        "recording": str(recording.path),
        "pair": str(recording.corrupted) if len(recording.paths) == 2 else None,
        **result.facts(),
    }
    draw(repetition_dir, facts)
    write_json(repetition_dir / RESULT, facts)
