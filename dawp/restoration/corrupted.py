"""Write corrupted copies of clean recordings: whole, at their own sample rate and with all channels."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from dawp.config import Config
from dawp.devices import memory_as_bad_input
from dawp.errors import BadInput, ErrorCode, printable, with_context
from dawp.io.files import check_writable
from dawp.io.formats import Form, form_of, write
from dawp.io.metadata.files import read_metadata
from dawp.io.reader import Reader
from dawp.io.sources import Recording
from dawp.randomness import seeded
from dawp.restoration.blocks import scan
from dawp.restoration.targets import Target, common_folder, plan_targets
from dawp.runs.experiment import Outcome
from dawp.tasks.base import make_problem

log = logging.getLogger(__name__)


def run(config: Config, recordings: Sequence[Recording]) -> Outcome:
    """Corrupt recordings, each into one file; see ``corrupt_all``.

    Raises:
        BadInput: a recording is not clean, or an output exists or cannot be written.
    """
    if any(recording.corrupted for recording in recordings):
        raise BadInput(f"source must have clean recordings, got {printable(config.run.source)}")
    return corrupt_all([(target, config) for target in plan_targets(config, recordings)])


def corrupt_all(plans: Sequence[tuple[Target, Config]]) -> Outcome:
    """Corrupt recordings with settings of their own, each into one file.

    Args:
        plans: each recording and its settings. Its index selects the stream of random draws.

    Raises:
        BadInput: an output exists or cannot be written.
    """
    for target, config in plans:
        check_writable(target.output.parent)
        if target.output.exists() and not config.run.overwrite:
            raise BadInput(
                f"{printable(target.output)}: already exists (use --overwrite to replace it)", code="output_exists"
            )
    failures: list[str] = []
    codes: list[ErrorCode] = []
    for index, (target, config) in enumerate(plans):
        try:
            with memory_as_bad_input(printable(target.path), "source"):
                _corrupt_file(target, config, index)
        except BadInput as refusal:
            failures.append(str(refusal))
            codes.append(refusal.code)
            log.error("%s", refusal)
    return Outcome(common_folder([target for target, _ in plans]), len(plans) - len(failures), 0, failures, codes)


def _corrupt_file(target: Target, config: Config, index: int) -> None:
    with Reader(target.path) as file:
        sound = scan(file, target.path, missing_allowed=False)
        samples = sound.read(0, sound.frames)
        form = form_of(
            target.output, Form(file.format, file.subtype), config.restoration.subtype, sound.rate, *samples.shape
        )
    try:
        corrupted = corrupt_channels(samples, sound.rate, config, index)
    except BadInput as refusal:
        raise with_context(refusal, sound.name) from None
    target.output.parent.mkdir(parents=True, exist_ok=True)
    metadata = read_metadata(target.path)
    write(target.output, lambda: iter([corrupted]), sound.rate, form, config.restoration.clip_mode, metadata)
    log.info("%s: corrupted, %.1f s of audio", printable(target.output), sound.frames / sound.rate)


def corrupt_channels(samples: Tensor, sample_rate: int, config: Config, index: int) -> Tensor:
    """Corrupt each channel of a recording with the same draws.

    A corruption may scale its clip. The channels keep the balance of the recording: they are scaled as the loudest one
    is. Silent channels stay silent.

    Args:
        samples: ``[channels, T]``.
        sample_rate: in Hz.
        config: all settings.
        index: selects the stream of random draws.

    Returns:
        ``[channels, T]``.

    Raises:
        BadInput: a channel cannot be corrupted.
    """
    corrupted, gains = torch.zeros_like(samples), torch.ones(len(samples))
    levels = samples.double().square().mean(dim=1).sqrt()
    for channel, level in enumerate(levels.tolist()):
        if not level:
            continue
        rng = seeded(config.fit.seed, "corruption", index)
        problem = make_problem(config.task, samples[channel], None, sample_rate, config.corruption, rng)
        corrupted[channel] = problem.observed
        if problem.clean is not None:
            gains[channel] = problem.clean.double().square().mean().sqrt() / level
    return corrupted * (gains[levels.argmax()] / gains)[:, None]
