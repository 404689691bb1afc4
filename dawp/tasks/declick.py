"""Clicks and other surface noise of records, added to a clean clip or found in a recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dawp.errors import BadInput, printable
from dawp.settings import setting
from dawp.tasks.base import BLIND, FAST, CorruptionConfig, Task, register

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dawp.problem import Problem

REVOLUTIONS = ("78", "45", "33")
"""Nominal speeds, as in ``simulate.records.RPM``."""

FOUND = ("rpm", "sensitivity")
"""Settings of the detection."""


@dataclass(frozen=True)
class ClickConfig(CorruptionConfig):
    """Clicks: the surface noise to add to clean clips, and the detection of clicks."""

    clicks: float = setting(1000.0, "clicks per minute", at_least=0, at_most=100_000, brief="clicks per minute to add")
    click_level: float = setting(
        10.0,
        "median peak of the clicks in dB relative to the RMS of the clip; the standard deviation is 8 dB",
        at_least=-60,
        at_most=100,
    )
    click_ms: float = setting(
        1.36, "longest click in milliseconds; the shortest has 0.023 ms (one sample at 44.1 kHz)", above=0, at_most=10
    )
    crackle: float | None = setting(
        None, "SNR in dB of added crackle, 400 small clicks per second", at_least=-100, at_most=100, none="no crackle"
    )
    hiss: float | None = setting(
        None, "SNR in dB of added hiss with the spectrum of a record", at_least=-100, at_most=100, none="no hiss"
    )
    rumble: float | None = setting(
        None, "SNR in dB of added rumble, 5 to 30 Hz", at_least=-100, at_most=100, none="no rumble"
    )
    noise_source: Path | None = setting(
        None,
        "sound file, or folder of sound files, with recorded surface noise to add instead of simulated noise: a random "
        "segment, looped over whole revolutions if it is too short",
        none="simulated noise",
        brief="sound file or folder of surface noise to add",
    )
    noise_gain: float = setting(
        1.0, "factor of the noise of --noise_source; not used with --snr", above=0, at_most=1000
    )
    snr: float | None = setting(
        None,
        "signal-to-noise ratio of the corrupted clip in dB, to which the noise is scaled as a whole",
        at_least=-100,
        at_most=100,
        none="by the levels of the parts, or --noise_gain",
    )
    rpm: str | None = setting(
        None,
        "speed of the record: added clicks, crackle and rumble repeat once per revolution, and clicks that repeat are "
        "found at lower levels",
        choices=REVOLUTIONS,
        none="no repetition",
        brief="speed of the record, 78, 45 or 33",
    )
    sensitivity: float = setting(
        1.0, "divides the threshold of the detection: higher values find more clicks, and more that are not", above=0,
        at_most=10,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_source is not None and not self.noise_source.exists():
            raise BadInput(
                f"noise_source must be a sound file or a folder of them, got {printable(self.noise_source)}",
                code="not_found",
            )
        if self.noise_source is None and not self.clicks and self.crackle is self.hiss is self.rumble is None:
            raise BadInput("clicks must be above 0 without crackle, hiss, rumble and noise_source, got 0")

    def identity(self) -> dict[str, Any]:
        recorded = self.noise_source is not None
        without_effect = {
            **dict.fromkeys(("clicks", "click_level", "click_ms", "crackle", "hiss", "rumble"), recorded),
            "noise_gain": not recorded or self.snr is not None,
        }
        if not recorded and not self.clicks:
            without_effect |= {"click_level": True, "click_ms": True}
        return {name: value for name, value in super().identity().items() if not without_effect.get(name)}

    def restore_identity(self, estimates_noise: bool) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FOUND}

    @property
    def revolution(self) -> float | None:
        """Duration of a revolution in seconds; None without a speed."""
        from dawp.simulate.records import RPM

        return None if self.rpm is None else 60 / RPM[self.rpm]

    @property
    def min_seconds(self) -> dict[str, float]:
        from dawp.dsp.clicks import LAG_RANGE

        return {"rpm": self.revolution * (1 + LAG_RANGE)} if self.revolution else {}

    def label(self) -> str:
        noise = self.noise_source.resolve().stem if self.noise_source else f"{self.clicks:g}-clicks"
        return noise if self.rpm is None else f"{noise}-{self.rpm}rpm"


def add_surface_noise(clean: Tensor, sample_rate: int, config: ClickConfig, rng: torch.Generator) -> Problem:
    """Add clicks, and other surface noise, to a clean clip.

    Args:
        clean: clip ``[T]``.
        sample_rate: its rate in Hz.
        config: kinds and levels of the noise, and the detection.
        rng: source of the noise.

    Returns:
        The problem of `find_clicks`, whose facts also include ``snr_db`` and ``noise``, and ``recall`` if clicks are
        added: the share of the clicks that are detected, at least in part.

    Raises:
        BadInput: the clip is silent, or the noise source cannot be used.
    """
    from dawp.io.audio import true_runs
    from dawp.simulate.records import read_surface_noise, revolution

    if not clean.any():
        raise BadInput("the clean clip is silent: the level of the clicks is undefined", code="unusable_recording")
    samples, kind, places = clean.double(), "simulated", None
    level = samples.square().mean().sqrt()
    period = revolution(config.rpm, sample_rate)
    if config.noise_source is not None:
        noise, path = read_surface_noise(config.noise_source, len(clean), sample_rate, rng, period)
        noise, kind = noise * config.noise_gain, str(path)
    else:
        noise, places = _draw(len(clean), sample_rate, config, rng, period)
        noise = noise * level
    if config.snr is not None:
        noise = noise * (level * 10 ** (-config.snr / 20) / noise.square().mean().sqrt())
    observed = (samples + noise).float()
    error = (observed - clean).double().square().mean().sqrt().clamp(min=1e-30)
    problem = find_clicks(observed, clean, sample_rate, config)
    problem.facts.update(noise=kind, snr_db=float(20 * (level / error).log10()))
    if places is not None and problem.mask is not None:
        found = ~problem.mask
        problem.facts["recall"] = float(
            sum(bool(found[start:stop].any()) for start, stop in true_runs(places)) / len(true_runs(places))
        )
    return problem


def _draw(
    length: int, sample_rate: int, config: ClickConfig, rng: torch.Generator, period: int | None
) -> tuple[Tensor, Tensor | None]:
    """Draw surface noise ``[length]`` for a clip with an RMS of 1; also return where the clicks are, None without."""
    import torch

    from dawp.simulate.records import draw_clicks, draw_crackle, draw_hiss, draw_rumble

    noise, places = torch.zeros(length, dtype=torch.float64), None
    if config.clicks:
        clicks = draw_clicks(length, sample_rate, config.clicks, config.click_ms / 1000, rng, period)
        noise += 10 ** (config.click_level / 20) * clicks.samples
        places = clicks.places if clicks.places.any() else None
    for snr, draw in ((config.crackle, draw_crackle), (config.rumble, draw_rumble)):
        if snr is not None:
            noise += 10 ** (-snr / 20) * draw(length, sample_rate, rng, period)
    if config.hiss is not None:
        noise += 10 ** (-config.hiss / 20) * draw_hiss(length, sample_rate, rng)
    return noise, places


def find_clicks(observed: Tensor, clean: Tensor | None, sample_rate: int, config: ClickConfig) -> Problem:
    """Return the problem of a clip with clicks: the samples of the clicks are missing, the others are kept.

    Args:
        observed: clip with clicks ``[T]``.
        clean: its version without noise ``[T]``, or None.
        sample_rate: of both, in Hz.
        config: the detection.

    Raises:
        BadInput: the clip is silent, or cannot be used.
    """
    from dawp.dsp.clicks import detect_clicks
    from dawp.io.audio import true_runs
    from dawp.operators.mask import Mask
    from dawp.problem import Problem

    found = detect_clicks(observed, sample_rate, config.sensitivity, config.revolution)
    facts = {"clicks_found": len(true_runs(found)), "found_percent": 100 * float(found.float().mean())}
    return Problem(observed, clean, sample_rate, Mask(~found), found.to(observed.dtype), facts=facts)


register(
    Task(
        name="declick",
        about="Remove clicks: add them to clean recordings, or find those of recordings, and fill them.",
        settings=ClickConfig,
        examples=(
            "record.wav --restore -o restored.wav",
            "record.wav --restore --rpm 78 --sensitivity 1.5 -o restored.wav",
            "clean.wav --clicks 1000 --crackle 30 --hiss 30 --preset fast --baselines",
        ),
        corrupt=add_surface_noise,
        adopt=find_clicks,
        is_local=True,
        presets={"restore": {**FAST, **BLIND, "method": "ar_frames"}},
        allows_highpass=False,
        has_strength=True,
    )
)
