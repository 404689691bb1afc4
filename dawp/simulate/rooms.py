"""Room impulse responses, simulated with pyroomacoustics or read from files."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from dawp.dsp.reverberation import measure_rt60
from dawp.errors import BadInput, printable
from dawp.io.audio import read
from dawp.io.sources import sounds_at
from dawp.simulate.geometry import FARTHEST, FROM_WALLS, LARGEST_ROOM, NEAREST, SMALLEST_ROOM, Metres, metres

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

MIN_DISTANCE = 0.05  # metres between source and microphone
ABSORPTION = (0.01, 0.99)  # bounds of the energy absorption of the most absorbing walls
TOLERANCE = 0.02  # relative error of the RT60 at which the search for the absorption stops
RAY_TOLERANCE = 0.05  # largest relative error accepted at the end: with rays, the RT60 is not continuous
MAX_IMAGES = 4_000_000  # image sources: about 3 s and 1.2 GB per step of the search
RAY_TRACED_ORDER = 3  # reflection order of the image sources with ray tracing
DIRECT_SECONDS = 0.0025  # the direct path of a measured impulse response: this far around its peak
DRY_SECONDS = 0.5  # length of a response that shows the shortest RT60 of a typical room
MAX_STEPS = 30  # of the search; four are typical
CLOSED = 1.0001  # ratio of the search bounds at which the search stops


class Response(NamedTuple):
    """An impulse response ``[L]`` whose direct path has gain 1."""

    whole: Tensor
    direct: Tensor  # the direct path alone, [L]
    delay: int  # delay of the direct path, rounded to samples
    fraction: float  # remainder of the delay, in samples
    facts: dict[str, Any]


def read_response(source: Path, sample_rate: int, rng: torch.Generator) -> Response:
    """Read a measured impulse response from a file, or from a random file in a folder.

    The samples within 2.5 ms of the peak are the direct path.

    Args:
        source: the file or folder.
        sample_rate: in Hz, to resample the response to.
        rng: source of the choice of the file.

    Raises:
        BadInput: the response is silent, or consists of the direct path only.
    """
    files = sounds_at(source)
    path = files[int(torch.randint(len(files), (), generator=rng))]
    whole = read(path, sample_rate, first_channel=True).double()
    if not whole.any():
        raise BadInput(
            f"rir_source {printable(path)}: must be an impulse response, got silence", code="unusable_recording"
        )
    delay = int(whole.abs().argmax())
    whole = whole / whole[delay]
    near = (torch.arange(len(whole)) - delay).abs() <= DIRECT_SECONDS * sample_rate
    before = whole[: max(0, delay - round(DIRECT_SECONDS * sample_rate))].square().sum()
    if before > whole[near].square().sum():
        log.warning(
            "rir_source %s: most of the energy precedes the peak; this may not be an impulse response",
            printable(path),
        )
    direct = torch.where(near, whole, 0)
    if torch.equal(direct, whole):
        raise BadInput(
            f"rir_source {printable(path)}: contains no reverberation (nothing beyond 2.5 ms around its peak)",
            code="unusable_recording",
        )
    return Response(whole, direct, delay, 0.0, _facts(whole, direct, sample_rate, rir=str(path)))


def simulate_response(
    rt60: float,
    sample_rate: int,
    rng: torch.Generator,
    room_dim: Metres | None = None,
    source_pos: Metres | None = None,
    mic_pos: Metres | None = None,
    ray_tracing: bool = False,
) -> Response:
    """Simulate the impulse response of a room whose wall absorption gives the requested reverberation time.

    Args:
        rt60: reverberation time in seconds.
        sample_rate: sample rate in Hz.
        rng: random generator for the values that are not given.
        room_dim: length, width and height in metres.
        source_pos: position of the source in metres.
        mic_pos: position of the microphone in metres.
        ray_tracing: trace rays for all but the first three reflections.

    Raises:
        BadInput: a position lies outside the room, or no absorption gives the reverberation time.
    """
    room = draw_room(sample_rate, rng, room_dim, source_pos, mic_pos, ray_tracing)
    exponent, whole = _search_walls(room, rt60)
    direct = room.response(exponent, 0)
    direct = torch.nn.functional.pad(direct, (0, len(whole) - len(direct)))
    delay = room.delay(math.dist(room.source, room.microphone))
    whole, direct = whole / direct.sum(), direct / direct.sum()  # the sum is the gain at low frequencies
    facts = _facts(
        whole,
        direct,
        sample_rate,
        rt60_asked=rt60,
        room_dim=room.dim.tolist(),
        source_pos=room.source.tolist(),
        mic_pos=room.microphone.tolist(),
        absorption=room.absorptions(exponent).tolist(),
        ray_tracing=ray_tracing,
    )
    return Response(whole, direct, round(delay), delay - round(delay), facts)


def draw_room(
    sample_rate: int,
    rng: torch.Generator,
    room_dim: Metres | None = None,
    source_pos: Metres | None = None,
    mic_pos: Metres | None = None,
    ray_tracing: bool = False,
) -> Room:
    """Return a room with its source and microphone; draw the values that are not given.

    Args:
        sample_rate: in Hz.
        rng: source of the random draws.
        room_dim: length, width and height in metres; None to draw them.
        source_pos: position of the source in metres; None to draw it.
        mic_pos: position of the microphone in metres; None to draw it.
        ray_tracing: whether late reflections are simulated by ray tracing.

    Raises:
        BadInput: a position lies outside the room, or the room is too small to draw positions.
    """
    import numpy as np

    def uniform(low: Metres | NDArray[np.float64], high: Metres | NDArray[np.float64]) -> NDArray[np.float64]:
        fraction = torch.rand(3, generator=rng, dtype=torch.float64).numpy()
        drawn: NDArray[np.float64] = np.asarray(low) + fraction * (np.asarray(high) - np.asarray(low))
        return drawn

    # Always drawn, so that a given room does not change the other draws.
    drawn_dim = uniform(SMALLEST_ROOM, LARGEST_ROOM)
    dim = np.asarray(room_dim) if room_dim else drawn_dim
    seed = int(torch.randint(2**31, (), generator=rng))
    given = {"source_pos": source_pos, "mic_pos": mic_pos}
    for name, position in given.items():
        if position is not None and not (np.asarray(position) < dim).all():
            sides = " x ".join(f"{side:.3g}" for side in dim)
            raise BadInput(f"{name} must lie inside the room of {sides} m, got {metres(position)}")
    if source_pos and mic_pos:
        if math.dist(source_pos, mic_pos) < MIN_DISTANCE:
            raise BadInput(
                f"source_pos must be at least {MIN_DISTANCE * 100:g} cm from mic_pos {metres(mic_pos)}, "
                f"got {metres(source_pos)}"
            )
        source, microphone = np.asarray(source_pos), np.asarray(mic_pos)
        return Room(dim, source, microphone, sample_rate, ray_tracing, seed)
    low, high = np.full(3, FROM_WALLS), dim - FROM_WALLS
    for _ in range(1000 if (low < high).all() else 0):
        first = next((np.asarray(position) for position in given.values() if position), uniform(low, high))
        direction = torch.randn(3, generator=rng, dtype=torch.float64).numpy()
        distance = NEAREST + (FARTHEST - NEAREST) * torch.rand((), generator=rng, dtype=torch.float64).item()
        second = first + distance * direction / np.linalg.norm(direction)
        if (low <= second).all() and (second <= high).all():
            source, microphone = (second, first) if mic_pos else (first, second)
            return Room(dim, source, microphone, sample_rate, ray_tracing, seed)
    raise BadInput(
        f"room_dim must leave space for random positions {FROM_WALLS:g} m from the walls and {NEAREST:g} m from each "
        f"other (or set source_pos and mic_pos), got {metres((dim[0], dim[1], dim[2]))}"
    )


class Room(NamedTuple):
    """A shoebox room with one source and one microphone."""

    dim: NDArray[np.float64]
    source: NDArray[np.float64]
    microphone: NDArray[np.float64]
    sample_rate: int
    ray_tracing: bool
    seed: int  # for ray tracing

    def absorptions(self, exponent: float) -> NDArray[np.float64]:
        """Return the energy absorption of the walls across each of the three axes.

        The walls across the longest axis reflect ``exp(-exponent)`` of the energy. For the other walls the exponent
        is proportional to their distance, so that sound along all three axes decays at the same rate. With equal
        absorption, sound along the longest axis would decay more slowly, and the measured RT60 would depend on the
        part of the decay used to measure it.
        """
        import numpy as np

        absorptions: NDArray[np.float64] = 1 - np.exp(-exponent * self.dim / self.dim.max())
        return absorptions

    def response(self, exponent: float, order: int) -> Tensor:
        """Return the impulse response ``[L]`` with reflections up to ``order`` (0: the direct path only)."""
        import numpy as np
        import pyroomacoustics as pra

        x, y, z = (float(absorption) for absorption in self.absorptions(exponent))
        materials = pra.make_materials(west=x, east=x, south=y, north=y, floor=z, ceiling=z)
        rays = self.ray_tracing and order > 0
        with _no_highpass(pra), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning about the run time of many rays
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
        """Return the delay in samples over a distance in metres, with that of the library's fractional delay filter."""
        from pyroomacoustics import constants

        samples: float = distance / constants.get("c") * self.sample_rate + constants.get("frac_delay_length") // 2
        return samples

    def order(self, seconds: float) -> int:
        """Return the maximum number of reflections within a time; it is reached along the room's diagonal."""
        from pyroomacoustics import constants

        speed: float = constants.get("c")
        return math.ceil(speed * seconds * math.sqrt(float((1 / self.dim**2).sum()))) + 1

    def longest(self) -> float:
        """Return the length in seconds of a response with ``MAX_IMAGES`` image sources, which form an octahedron."""
        max_order = (MAX_IMAGES * 3 / 4) ** (1 / 3)
        return math.inf if self.ray_tracing else (max_order - 1) / (self.order(1.0) - 1)


def _search_walls(room: Room, rt60: float) -> tuple[float, Tensor]:
    """Find the absorption exponent that gives the requested RT60.

    The search starts from Eyring's formula and narrows its bounds in each step.

    Returns:
        The exponent and the impulse response.

    Raises:
        BadInput: there is none, or it needs too many image sources.
    """
    lowest, highest = (-math.log(1 - absorption) for absorption in ABSORPTION)
    volume, surface = float(room.dim.prod()), float(2 * (room.dim.prod() / room.dim).sum())
    eyring = 0.161 * volume / surface * float(room.dim.max() / room.dim.mean())
    longest = min(eyring / lowest, room.longest())
    if rt60 >= longest:
        raise BadInput(_refusal(room, rt60, longest))
    low, high, guess = lowest, highest, min(highest, eyring / rt60)
    nearest, found = math.inf, (guess, torch.zeros(0))
    for _ in range(MAX_STEPS):
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


def _refusal(room: Room, rt60: float, longest: float, nearest: float = math.nan) -> str:
    """Return the error message for an RT60 that a room cannot have, with the range it can have."""
    most_absorbing = -math.log(1 - ABSORPTION[1])
    enough = room.order(min(longest, max(rt60, DRY_SECONDS)))
    shortest = measure_rt60(room.response(most_absorbing, enough), room.sample_rate)
    size = f"the room of {' x '.join(f'{side:.3g}' for side in room.dim)} m"
    hint = "" if room.ray_tracing or rt60 < shortest < longest else " (ray_tracing extends the range)"
    if shortest < rt60 < longest or not shortest < longest:
        found = f", the nearest found was {nearest:.2g} s" if math.isfinite(nearest) else ""
        return f"rt60 must be possible in {size}{hint}, got {rt60:g} s{found}"
    return f"rt60 must be from {shortest:.2g} to {longest:.2g} s in {size}{hint}, got {rt60:g} s"


def _facts(whole: Tensor, direct: Tensor, sample_rate: int, **others: Any) -> dict[str, Any]:
    reflected = (whole - direct).square().sum()
    drr = 10 * torch.log10(direct.square().sum() / reflected).item()
    return {**others, "rt60": measure_rt60(whole, sample_rate), "drr_db": drr}


@contextmanager
def _no_highpass(pra: Any) -> Iterator[None]:
    """Disable the zero-phase high-pass of pyroomacoustics: it rings for longer than a dry room decays."""
    before = pra.constants.get("rir_hpf_enable")
    pra.constants.set("rir_hpf_enable", False)
    try:
        yield
    finally:
        pra.constants.set("rir_hpf_enable", before)
