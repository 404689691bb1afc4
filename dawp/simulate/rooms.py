"""Impulse responses of rooms: simulated by pyroomacoustics, or measured."""

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

TOUCHING = 0.05  # metres at least between given places
ABSORPTION = (0.01, 0.99)  # of energy, by the most absorbing wall: from a swimming hall to an anechoic chamber
TOLERANCE = 0.02  # relative error of the RT60 that the search for the absorption is content with
RAY_TOLERANCE = 0.05  # and that it accepts in the end: what rays give jumps a little from one absorption to the next
MOST_IMAGES = 4_000_000  # image sources: some 3 s and 1.2 GB for each step of the search
RAY_TRACED_ORDER = 3  # reflections by image sources where rays do the rest
DIRECT_SECONDS = 0.0025  # around the peak of a measured impulse response: its direct path
DRY_SECONDS = 0.5  # of a response in which the shortest RT60 of a usual room shows
LONGEST_SEARCH = 30  # steps; four are usual
CLOSED = 1.0001  # ratio of the bounds of the search at which it is over


class Response(NamedTuple):
    """An impulse response ``[L]`` whose direct path has gain 1."""

    whole: Tensor
    direct: Tensor  # the direct path in it, [L]
    delay: int  # of the direct path, in samples
    fraction: float  # of a sample, that it comes later than that
    facts: dict[str, Any]


def read_response(source: Path, sample_rate: int, rng: torch.Generator) -> Response:
    """Read a measured impulse response from a file, or from one file of a folder.

    Its direct path is what lies within 2.5 ms around its peak.

    Raises:
        BadInput: it is silent, or is nothing but the direct path.
    """
    files = sounds_at(source)
    path = files[int(torch.randint(len(files), (), generator=rng))]
    whole = read(path, sample_rate, first_channel=True).double()
    if not whole.any():
        raise BadInput(f"rir_source {printable(path)}: is silent, no impulse response")
    delay = int(whole.abs().argmax())
    whole = whole / whole[delay]
    near = (torch.arange(len(whole)) - delay).abs() <= DIRECT_SECONDS * sample_rate
    before = whole[: max(0, delay - round(DIRECT_SECONDS * sample_rate))].square().sum()
    if before > whole[near].square().sum():
        log.warning(
            "rir_source %s: has most of its energy before its peak: is it an impulse response?", printable(path)
        )
    direct = torch.where(near, whole, 0)
    if torch.equal(direct, whole):
        raise BadInput(
            f"rir_source {printable(path)}: holds nothing beyond 2.5 ms around its peak, so no reverberation"
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
    """Simulate the impulse response of a room, its walls chosen for the reverberation time.

    Args:
        rt60: reverberation time in seconds.
        sample_rate: in Hz.
        rng: source of everything that is not given.
        room_dim: length, width and height in metres.
        source_pos: place of the source in metres.
        mic_pos: place of the microphone in metres.
        ray_tracing: trace rays for all but the first three reflections.

    Raises:
        BadInput: the places are not in the room, or no wall of the room gives the reverberation time.
    """
    room = draw_room(sample_rate, rng, room_dim, source_pos, mic_pos, ray_tracing)
    exponent, whole = _search_walls(room, rt60)
    direct = room.response(exponent, 0)
    direct = torch.nn.functional.pad(direct, (0, len(whole) - len(direct)))
    delay = room.delay(math.dist(room.source, room.microphone))
    whole, direct = whole / direct.sum(), direct / direct.sum()  # the sum: its gain at low frequencies
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
    """Return a room with its source and microphone; draw what is not given.

    Raises:
        BadInput: the places are not in the room, or it is too small to draw them.
    """
    import numpy as np

    def uniform(low: Metres | NDArray[np.float64], high: Metres | NDArray[np.float64]) -> NDArray[np.float64]:
        share = torch.rand(3, generator=rng, dtype=torch.float64).numpy()
        drawn: NDArray[np.float64] = np.asarray(low) + share * (np.asarray(high) - np.asarray(low))
        return drawn

    drawn_dim = uniform(SMALLEST_ROOM, LARGEST_ROOM)  # drawn in any case: a given room leaves the other draws alone
    dim = np.asarray(room_dim) if room_dim else drawn_dim
    seed = int(torch.randint(2**31, (), generator=rng))
    given = {"source_pos": source_pos, "mic_pos": mic_pos}
    for name, place in given.items():
        if place is not None and not (np.asarray(place) < dim).all():
            sides = " x ".join(f"{side:.3g}" for side in dim)
            raise BadInput(f"{name} {metres(place)} is not inside the room of {sides} m")
    if source_pos and mic_pos:
        if math.dist(source_pos, mic_pos) < TOUCHING:
            raise BadInput(
                f"source_pos {metres(source_pos)} and mic_pos {metres(mic_pos)} must be at least "
                f"{TOUCHING * 100:g} cm apart"
            )
        source, microphone = np.asarray(source_pos), np.asarray(mic_pos)
        return Room(dim, source, microphone, sample_rate, ray_tracing, seed)
    low, high = np.full(3, FROM_WALLS), dim - FROM_WALLS
    for _ in range(1000 if (low < high).all() else 0):
        first = next((np.asarray(place) for place in given.values() if place), uniform(low, high))
        direction = torch.randn(3, generator=rng, dtype=torch.float64).numpy()
        distance = NEAREST + (FARTHEST - NEAREST) * torch.rand((), generator=rng, dtype=torch.float64).item()
        second = first + distance * direction / np.linalg.norm(direction)
        if (low <= second).all() and (second <= high).all():
            source, microphone = (second, first) if mic_pos else (first, second)
            return Room(dim, source, microphone, sample_rate, ray_tracing, seed)
    raise BadInput(
        f"room_dim {metres((dim[0], dim[1], dim[2]))} is too small to draw places {FROM_WALLS:g} m from the walls and "
        f"{NEAREST:g} m from each other; source_pos and mic_pos set them"
    )


class Room(NamedTuple):
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


def _search_walls(room: Room, rt60: float) -> tuple[float, Tensor]:
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


def _refusal(room: Room, rt60: float, longest: float, nearest: float = math.nan) -> str:
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


def _facts(whole: Tensor, direct: Tensor, sample_rate: int, **others: Any) -> dict[str, Any]:
    reflected = (whole - direct).square().sum()
    drr = 10 * torch.log10(direct.square().sum() / reflected).item()
    return {**others, "rt60": measure_rt60(whole, sample_rate), "drr_db": drr}


@contextmanager
def _no_highpass(pra: Any) -> Iterator[None]:
    """Without pyroomacoustics' zero-phase high-pass: its ringing would outlast the decay of a dry room."""
    before = pra.constants.get("rir_hpf_enable")
    pra.constants.set("rir_hpf_enable", False)
    try:
        yield
    finally:
        pra.constants.set("rir_hpf_enable", before)
