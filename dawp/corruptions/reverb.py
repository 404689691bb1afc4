"""Reverberation (paper section 4): a simulated room, by pyroomacoustics, or a measured impulse response."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torchaudio.functional
from torch import Tensor

from dawp.audio import level_dbfs, read
from dawp.config import Metres, ReverbConfig
from dawp.errors import BadInput, shown
from dawp.problem import Problem
from dawp.sources import sounds_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALLEST_ROOM, LARGEST_ROOM = (3.0, 3.0, 2.4), (6.0, 5.0, 3.2)  # metres: bounds of a drawn room
DISTANCE = 0.5  # metres at least between a drawn place and the walls, and between source and microphone
FARTHEST = 2.0  # metres at most between source and microphone, if one of them is drawn
NEAREST = 0.05  # metres at least between given places
ABSORPTION = (0.01, 0.99)  # of energy, by the most absorbing wall: from a swimming hall to an anechoic chamber
DRY_SECONDS = 0.2  # in which a room with the most absorbing walls has decayed for long
TOLERANCE = 0.02  # relative error of the RT60 that the search for the absorption is content with
MOST_IMAGES = 10_000_000  # image sources: some 10 s and 1 GB
RAY_TRACED_ORDER = 3  # reflections by image sources where rays do the rest
DIRECT_SECONDS = 0.0025  # around the peak of a measured impulse response: its direct path
DECAY_DB = 30  # T30: from -5 to -35 dB, extrapolated to 60 dB (ISO 3382-1)
EDGE = 1024  # samples
CLIPPING = 0.99


class Response(NamedTuple):
    """An impulse response ``[L]`` whose direct path has gain 1."""

    whole: Tensor
    direct: Tensor  # the direct path in it, [L]
    delay: int  # of the direct path, in samples
    fraction: float  # of a sample, that it comes later than that
    facts: dict[str, Any]


def add_reverb(clean: Tensor, sample_rate: int, config: ReverbConfig, rng: torch.Generator) -> Problem:
    """Put a clean clip into a room.

    With h the impulse response and d the direct path in it, both shifted so that the direct path arrives at once and
    scaled so that it has gain 1, the corrupted clip is h * s and the clean one d * s (or, with ``reference`` dry, s
    itself, delayed by the same fraction of a sample): the two are aligned in time and level, and differ by the
    reflections alone. Should a sample exceed 0.99, both are scaled down.

    Args:
        clean: dry clip s ``[T]``.
        sample_rate: its rate in Hz.
        config: the room, or where to take an impulse response from.
        rng: source of the room, the places in it, and the choice of file.

    Returns:
        The problem, with ``rt60`` (measured from the impulse response, in seconds), ``drr_db`` (energy of the direct
        path over that of the reflections), the room and the places among its facts.

    Raises:
        BadInput: the clip or the impulse response is silent, the places are not in the room, or no wall of the room
            gives the asked RT60.
    """
    if not clean.any():
        raise BadInput("the clean clip is silent: no room changes it")
    response = _measured(sample_rate, config, rng) if config.rir_source else _simulated(sample_rate, config, rng)
    dry = clean.double()
    observed, direct = (
        torchaudio.functional.fftconvolve(dry, h)[response.delay : response.delay + len(dry)]
        for h in (response.whole, response.direct)
    )
    reference = direct if config.reference == "direct" else _delayed(dry, response.fraction)
    gain = min(1.0, CLIPPING / max(observed.abs().max().item(), reference.abs().max().item()))
    observed, reference = (observed * gain).float(), (reference * gain).float()
    facts = {**response.facts, "reference": config.reference, "level_dbfs": level_dbfs(observed)}
    return Problem(observed, reference, sample_rate, facts=facts)


def measure_rt60(response: Tensor, sample_rate: int) -> float:
    """Reverberation time in seconds of an impulse response ``[L]``: Schroeder's backward integral, T30.

    NaN where it does not decay by 35 dB.
    """
    energy = response.double().square().flip(0).cumsum(0).flip(0)
    decay = 10 * torch.log10(energy / energy[0])
    begin, end = ((decay < level).nonzero()[:1, 0] for level in (-5.0, -5.0 - DECAY_DB))
    if not len(end) or end - begin < 2:
        return math.nan
    line = decay[int(begin) : int(end)]
    time = torch.arange(len(line), dtype=torch.float64) / sample_rate
    slope = ((time - time.mean()) * (line - line.mean())).sum() / (time - time.mean()).square().sum()
    return -60 / slope.item()


def _delayed(waveform: Tensor, samples: float) -> Tensor:
    """A waveform ``[T]`` later by a fraction of a sample: a phase shift, over a stretch of silence to either end."""
    padded = torch.nn.functional.pad(waveform, (EDGE, EDGE))
    spectrum = torch.fft.rfft(padded)
    frequencies = torch.fft.rfftfreq(len(padded), dtype=waveform.dtype)
    shifted = torch.fft.irfft(spectrum * torch.exp(-2j * math.pi * frequencies * samples), n=len(padded))
    return shifted[EDGE : EDGE + len(waveform)] if samples else waveform


def _facts(whole: Tensor, direct: Tensor, sample_rate: int, **others: Any) -> dict[str, Any]:
    reflected = (whole - direct).square().sum()
    drr = 10 * torch.log10(direct.square().sum() / reflected).item()
    return {**others, "rt60": measure_rt60(whole, sample_rate), "drr_db": drr}


# Measured impulse responses


def _measured(sample_rate: int, config: ReverbConfig, rng: torch.Generator) -> Response:
    """The impulse response in a file, or in one file of a folder; its direct path is 2.5 ms around its peak."""
    source: Path = config.rir_source  # type: ignore[assignment]
    files = sounds_in(source) if source.is_dir() else [source]
    path = files[int(torch.randint(len(files), (), generator=rng))]
    whole = read(path, sample_rate, first_channel=True).double()
    if not whole.any():
        raise BadInput(f"rir_source {shown(path)}: is silent, no impulse response")
    delay = int(whole.abs().argmax())
    whole = whole / whole[delay]
    near = (torch.arange(len(whole)) - delay).abs() <= DIRECT_SECONDS * sample_rate
    direct = torch.where(near, whole, 0)
    if torch.equal(direct, whole):
        raise BadInput(f"rir_source {shown(path)}: holds nothing beyond 2.5 ms around its peak, so no reverberation")
    return Response(whole, direct, delay, 0.0, _facts(whole, direct, sample_rate, rir=str(path)))


# Simulated rooms


class _Room(NamedTuple):
    """A shoebox room with a source and a microphone in it."""

    dim: NDArray[np.float64]
    source: NDArray[np.float64]
    microphone: NDArray[np.float64]
    sample_rate: int
    ray_tracing: bool
    seed: int  # of the rays

    def absorptions(self, exponent: float) -> NDArray[np.float64]:
        """Energy absorbed by the walls across each of the three axes.

        ``exponent`` is minus the log of what the walls across the longest axis reflect; across the others it is in
        proportion to the distance that sound travels between two hits: the sound along all three axes then decays
        alike. With one absorption for all walls the sound along the longest axis would linger, and the measured RT60
        would depend on the part of the decay that one looks at.
        """
        import numpy as np

        absorptions: NDArray[np.float64] = 1 - np.exp(-exponent * self.dim / self.dim.max())
        return absorptions

    def response(self, exponent: float, order: int) -> NDArray[np.float64]:
        """The impulse response ``[L]`` with reflections up to ``order`` (only the direct path for 0)."""
        import numpy as np
        import pyroomacoustics as pra

        x, y, z = (float(absorption) for absorption in self.absorptions(exponent))
        materials = pra.make_materials(west=x, east=x, south=y, north=y, floor=z, ceiling=z)
        rays = self.ray_tracing and order > 0
        with _no_highpass(pra):
            pra.random.seed(self.seed)
            room = pra.ShoeBox(
                self.dim,
                fs=self.sample_rate,
                materials=materials,
                max_order=min(order, RAY_TRACED_ORDER) if rays else order,
                ray_tracing=rays,
                air_absorption=False,
            )
            room.add_source(self.source)
            room.add_microphone(self.microphone)
            room.compute_rir()
        return np.asarray(room.rir[0][0], dtype=np.float64)

    def rt60(self, exponent: float, longest: float) -> float:
        return measure_rt60(torch.from_numpy(self.response(exponent, self.order(longest))), self.sample_rate)

    def delay(self, distance: float) -> float:
        """Samples that sound takes over a distance in metres, and the library's filters for parts of a sample."""
        from pyroomacoustics import constants

        samples: float = distance / constants.get("c") * self.sample_rate + constants.get("frac_delay_length") // 2
        return samples

    def order(self, seconds: float) -> int:
        """Reflections that sound can have undergone after some time."""
        from pyroomacoustics import constants

        speed: float = constants.get("c")
        return math.ceil(speed * seconds / float(self.dim.min())) + 1


def _simulated(sample_rate: int, config: ReverbConfig, rng: torch.Generator) -> Response:
    """The impulse response of the configured or drawn room, its walls chosen for the asked RT60."""
    room = _furnish(sample_rate, config, rng)
    _check_cost(room, config.rt60)
    exponent = _find_exponent(room, config.rt60)
    whole = torch.from_numpy(room.response(exponent, room.order(config.rt60)))
    direct = torch.from_numpy(room.response(exponent, 0))
    direct = torch.nn.functional.pad(direct, (0, len(whole) - len(direct)))
    delay = room.delay(math.dist(room.source, room.microphone))
    whole, direct = whole / direct.sum(), direct / direct.sum()  # the sum: its gain at low frequencies
    facts = _facts(
        whole,
        direct,
        sample_rate,
        rt60_asked=config.rt60,
        room_dim=room.dim.tolist(),
        source_pos=room.source.tolist(),
        mic_pos=room.microphone.tolist(),
        absorption=room.absorptions(exponent).tolist(),
        ray_tracing=config.ray_tracing,
    )
    return Response(whole, direct, round(delay), delay - round(delay), facts)


def _find_exponent(room: _Room, rt60: float) -> float:
    """At which exponent of absorption the measured RT60 is the asked one.

    Eyring's formula gives the first guess; the search goes on from there, between bounds that close in.
    """
    least, most = (-math.log(1 - absorption) for absorption in ABSORPTION)
    shortest = room.rt60(most, min(rt60, DRY_SECONDS))
    volume, surface = float(room.dim.prod()), float(2 * (room.dim.prod() / room.dim).sum())
    eyring = 0.161 * volume / surface * float(room.dim.max() / room.dim.mean())
    if not shortest < rt60 < eyring / least:
        sides = " x ".join(f"{side:.2g}" for side in room.dim)
        raise BadInput(
            f"rt60 {rt60:g} s: the walls of this room of {sides} m can give {shortest:.2g} to {eyring / least:.2g} s"
        )
    low, high, guess = least, most, min(most, eyring / rt60)
    for _ in range(30):
        measured = room.rt60(guess, rt60)
        if abs(measured / rt60 - 1) < TOLERANCE:
            break
        low, high = (guess, high) if measured > rt60 else (low, guess)
        step = guess * measured / rt60
        guess = step if low < step < high else math.sqrt(low * high)
    return guess


def _check_cost(room: _Room, rt60: float) -> None:
    """Refuse what would need more image sources than fit into memory: an octahedron of them."""
    images = 4 / 3 * room.order(rt60) ** 3
    if not room.ray_tracing and images > MOST_IMAGES:
        raise BadInput(
            f"rt60 {rt60:g} s takes {images / 1e6:.0f} million image sources in a room whose shortest side is "
            f"{room.dim.min():.2g} m, more than {MOST_IMAGES / 1e6:.0f} million; --ray_tracing does without"
        )


def _furnish(sample_rate: int, config: ReverbConfig, rng: torch.Generator) -> _Room:
    """The room with its source and microphone, what is not given drawn."""
    import numpy as np

    def uniform(low: Metres | NDArray[np.float64], high: Metres | NDArray[np.float64]) -> NDArray[np.float64]:
        share = torch.rand(3, generator=rng, dtype=torch.float64).numpy()
        drawn: NDArray[np.float64] = np.asarray(low) + share * (np.asarray(high) - np.asarray(low))
        return drawn

    # Every draw is made whether it is used or not: giving one thing leaves the others as they were.
    drawn_dim = uniform(SMALLEST_ROOM, LARGEST_ROOM)
    dim = np.asarray(config.room_dim) if config.room_dim else drawn_dim
    seed = int(torch.randint(2**31, (), generator=rng))
    for name, place in (("source_pos", config.source_pos), ("mic_pos", config.mic_pos)):
        if place is not None and not (np.asarray(place) < dim).all():
            sides = " x ".join(f"{side:.3g}" for side in dim)
            raise BadInput(f"{name} {_metres(place)} is not inside the room of {sides} m")
    if config.source_pos and config.mic_pos and math.dist(config.source_pos, config.mic_pos) < NEAREST:
        raise BadInput(
            f"source_pos {_metres(config.source_pos)} and mic_pos {_metres(config.mic_pos)} must be at least "
            f"{NEAREST * 100:g} cm apart"
        )
    inside = np.full(3, DISTANCE), dim - DISTANCE
    for _ in range(1000):
        source, microphone = (
            np.asarray(given) if given else uniform(*inside) for given in (config.source_pos, config.mic_pos)
        )
        if (config.source_pos and config.mic_pos) or (
            (inside[0] <= inside[1]).all() and DISTANCE <= math.dist(source, microphone) <= FARTHEST
        ):
            return _Room(dim, source, microphone, sample_rate, config.ray_tracing, seed)
    raise BadInput(
        f"room_dim {_metres(tuple(dim))} is too small to draw places {DISTANCE:g} m from the walls and each other; "
        "source_pos and mic_pos set them"
    )


def _metres(place: Metres) -> str:
    return ",".join(f"{metres:g}" for metres in place)


@contextmanager
def _no_highpass(pra: Any) -> Iterator[None]:
    """Without pyroomacoustics' zero-phase high-pass: its ringing would outlast the decay of a dry room."""
    before = pra.constants.get("rir_hpf_enable")
    pra.constants.set("rir_hpf_enable", False)
    try:
        yield
    finally:
        pra.constants.set("rir_hpf_enable", before)
