"""Reverberation (paper section 4): a simulated room, by pyroomacoustics, or a measured impulse response."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torchaudio.functional
from torch import Tensor

from dawp.config import FARTHEST, FROM_WALLS, LARGEST_ROOM, NEAREST, SMALLEST_ROOM, Metres, ReverbConfig, metres
from dawp.errors import BadInput, shown
from dawp.io.audio import level_dbfs, read
from dawp.io.sources import sounds_at
from dawp.problem import Problem

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOUCHING = 0.05  # metres at least between given places
ABSORPTION = (0.01, 0.99)  # of energy, by the most absorbing wall: from a swimming hall to an anechoic chamber
TOLERANCE = 0.02  # relative error of the RT60 that the search for the absorption is content with
RAY_TOLERANCE = 0.05  # and that it accepts in the end: what rays give jumps a little from one absorption to the next
MOST_IMAGES = 4_000_000  # image sources: some 3 s and 1.2 GB for each step of the search
RAY_TRACED_ORDER = 3  # reflections by image sources where rays do the rest
DIRECT_SECONDS = 0.0025  # around the peak of a measured impulse response: its direct path
DECAY_DB = 30  # T30: from -5 to -35 dB, extrapolated to 60 dB (ISO 3382-1)
DRY_SECONDS = 0.5  # of a response in which the shortest RT60 of a usual room shows
LONGEST_SEARCH = 30  # steps; four are usual
CLOSED = 1.0001  # ratio of the bounds of the search at which it is over
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
    reflections alone. With ``reference`` unaligned s itself is the clean clip and h keeps its delay. Should a sample
    exceed 0.99, both are scaled down.

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
    skipped = 0 if config.reference == "unaligned" else response.delay
    if response.delay - skipped >= len(dry):
        raise BadInput(f"the sound needs {response.delay / sample_rate:.3f} s to the microphone, longer than the clip")
    observed, direct = (
        torchaudio.functional.fftconvolve(dry, h)[skipped : skipped + len(dry)]
        for h in (response.whole, response.direct)
    )
    match config.reference:
        case "direct":
            reference = direct
        case "dry":
            reference = _delayed(dry, response.fraction)
        case "unaligned":
            reference = dry
    gain = min(1.0, CLIPPING / max(observed.abs().max().item(), reference.abs().max().item()))
    observed, reference = (observed * gain).float(), (reference * gain).float()
    facts = {**response.facts, "reference": config.reference, "level_dbfs": level_dbfs(observed)}
    return Problem(observed, reference, sample_rate, facts=facts, rir=response.whole.float())


def energy_decay(response: Tensor) -> Tensor:
    """Schroeder's integral: the energy still to come at each sample of a response ``[L]``, in dB relative to all."""
    energy = response.double().square().flip(0).cumsum(0).flip(0)
    return 10 * torch.log10(energy / energy[0])


def measure_rt60(response: Tensor, sample_rate: int) -> float:
    """Reverberation time in seconds of an impulse response ``[L]``: Schroeder's backward integral, T30.

    NaN where it does not decay by 35 dB.
    """
    decay = energy_decay(response)
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
    files = sounds_at(source)
    path = files[int(torch.randint(len(files), (), generator=rng))]
    whole = read(path, sample_rate, first_channel=True).double()
    if not whole.any():
        raise BadInput(f"rir_source {shown(path)}: is silent, no impulse response")
    delay = int(whole.abs().argmax())
    whole = whole / whole[delay]
    near = (torch.arange(len(whole)) - delay).abs() <= DIRECT_SECONDS * sample_rate
    before = whole[: max(0, delay - round(DIRECT_SECONDS * sample_rate))].square().sum()
    if before > whole[near].square().sum():
        log.warning("rir_source %s: has most of its energy before its peak: is it an impulse response?", shown(path))
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

    def response(self, exponent: float, order: int) -> Tensor:
        """The impulse response ``[L]`` with reflections up to ``order`` (only the direct path for 0)."""
        import numpy as np
        import pyroomacoustics as pra

        x, y, z = (float(absorption) for absorption in self.absorptions(exponent))
        materials = pra.make_materials(west=x, east=x, south=y, north=y, floor=z, ceiling=z)
        rays = self.ray_tracing and order > 0
        with _no_highpass(pra), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that many rays take long
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
        return torch.from_numpy(np.asarray(room.rir[0][0], dtype=np.float64))

    def delay(self, distance: float) -> float:
        """Samples that sound takes over a distance in metres, and the library's filters for parts of a sample."""
        from pyroomacoustics import constants

        samples: float = distance / constants.get("c") * self.sample_rate + constants.get("frac_delay_length") // 2
        return samples

    def order(self, seconds: float) -> int:
        """Reflections that sound can undergo in some time: most of them on its way along the room's diagonal."""
        from pyroomacoustics import constants

        speed: float = constants.get("c")
        return math.ceil(speed * seconds * math.sqrt(float((1 / self.dim**2).sum()))) + 1

    def longest(self) -> float:
        """Seconds of response for which the image sources (an octahedron of them) are not too many."""
        most_order = (MOST_IMAGES * 3 / 4) ** (1 / 3)
        return math.inf if self.ray_tracing else (most_order - 1) / (self.order(1.0) - 1)


def _simulated(sample_rate: int, config: ReverbConfig, rng: torch.Generator) -> Response:
    """The impulse response of the configured or drawn room, its walls chosen for the asked RT60."""
    room = _furnish(sample_rate, config, rng)
    exponent, whole = _search_walls(room, config.rt60)
    direct = room.response(exponent, 0)
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


def _search_walls(room: _Room, rt60: float) -> tuple[float, Tensor]:
    """The exponent of absorption at which the measured RT60 is the asked one, and the impulse response then.

    Eyring's formula gives the first guess; the search goes on from there, between bounds that close in.

    Raises:
        BadInput: there is none, or it would take too many image sources.
    """
    least, most = (-math.log(1 - absorption) for absorption in ABSORPTION)
    volume, surface = float(room.dim.prod()), float(2 * (room.dim.prod() / room.dim).sum())
    eyring = 0.161 * volume / surface * float(room.dim.max() / room.dim.mean())
    longest = min(eyring / least, room.longest())
    if rt60 >= longest:
        raise BadInput(_refusal(room, rt60, longest))
    low, high, guess = least, most, min(most, eyring / rt60)
    nearest, found = math.inf, (guess, torch.zeros(0))
    for _ in range(LONGEST_SEARCH):
        response = room.response(guess, room.order(rt60))
        measured = measure_rt60(response, room.sample_rate)
        if abs(measured - rt60) < abs(nearest - rt60):
            nearest, found = measured, (guess, response)
        if abs(nearest / rt60 - 1) < TOLERANCE:
            return found
        low, high = (guess, high) if measured > rt60 else (low, guess)
        if high / low < CLOSED:
            break
        step = guess * measured / rt60
        guess = step if low < step < high else math.sqrt(low * high)
    if abs(nearest / rt60 - 1) < RAY_TOLERANCE:
        return found
    raise BadInput(_refusal(room, rt60, longest, nearest))


def _refusal(room: _Room, rt60: float, longest: float, nearest: float = math.nan) -> str:
    """Which RT60 the walls of a room can give in place of the asked one, as far as it can be told."""
    most_absorbing = -math.log(1 - ABSORPTION[1])
    enough = room.order(min(longest, max(rt60, DRY_SECONDS)))
    shortest = measure_rt60(room.response(most_absorbing, enough), room.sample_rate)
    asked = f"rt60 {rt60:g} s: the walls of this room of {' x '.join(f'{side:.3g}' for side in room.dim)} m"
    hint = "" if room.ray_tracing or rt60 < shortest < longest else "; ray_tracing reaches further"
    if shortest < rt60 < longest or not shortest < longest:
        found = f", the nearest found was {nearest:.2g} s" if math.isfinite(nearest) else ""
        return f"{asked} do not give it by image sources{found}{hint}" if hint else f"{asked} do not give it{found}"
    return f"{asked} can give {shortest:.2g} to {longest:.2g} s{hint}"


def _furnish(sample_rate: int, config: ReverbConfig, rng: torch.Generator) -> _Room:
    """The room with its source and microphone, what is not given drawn."""
    import numpy as np

    def uniform(low: Metres | NDArray[np.float64], high: Metres | NDArray[np.float64]) -> NDArray[np.float64]:
        share = torch.rand(3, generator=rng, dtype=torch.float64).numpy()
        drawn: NDArray[np.float64] = np.asarray(low) + share * (np.asarray(high) - np.asarray(low))
        return drawn

    drawn_dim = uniform(SMALLEST_ROOM, LARGEST_ROOM)  # drawn in any case: a given room leaves the other draws alone
    dim = np.asarray(config.room_dim) if config.room_dim else drawn_dim
    seed = int(torch.randint(2**31, (), generator=rng))
    given = {"source_pos": config.source_pos, "mic_pos": config.mic_pos}
    for name, place in given.items():
        if place is not None and not (np.asarray(place) < dim).all():
            sides = " x ".join(f"{side:.3g}" for side in dim)
            raise BadInput(f"{name} {metres(place)} is not inside the room of {sides} m")
    if config.source_pos and config.mic_pos:
        if math.dist(config.source_pos, config.mic_pos) < TOUCHING:
            raise BadInput(
                f"source_pos {metres(config.source_pos)} and mic_pos {metres(config.mic_pos)} must be at least "
                f"{TOUCHING * 100:g} cm apart"
            )
        source, microphone = np.asarray(config.source_pos), np.asarray(config.mic_pos)
        return _Room(dim, source, microphone, sample_rate, config.ray_tracing, seed)
    low, high = np.full(3, FROM_WALLS), dim - FROM_WALLS
    for _ in range(1000 if (low < high).all() else 0):
        first = next((np.asarray(place) for place in given.values() if place), uniform(low, high))
        direction = torch.randn(3, generator=rng, dtype=torch.float64).numpy()
        distance = NEAREST + (FARTHEST - NEAREST) * torch.rand((), generator=rng, dtype=torch.float64).item()
        second = first + distance * direction / np.linalg.norm(direction)
        if (low <= second).all() and (second <= high).all():
            source, microphone = (second, first) if config.mic_pos else (first, second)
            return _Room(dim, source, microphone, sample_rate, config.ray_tracing, seed)
    raise BadInput(
        f"room_dim {metres((dim[0], dim[1], dim[2]))} is too small to draw places {FROM_WALLS:g} m from the walls and "
        f"{NEAREST:g} m from each other; source_pos and mic_pos set them"
    )


@contextmanager
def _no_highpass(pra: Any) -> Iterator[None]:
    """Without pyroomacoustics' zero-phase high-pass: its ringing would outlast the decay of a dry room."""
    before = pra.constants.get("rir_hpf_enable")
    pra.constants.set("rir_hpf_enable", False)
    try:
        yield
    finally:
        pra.constants.set("rir_hpf_enable", before)
