"""Reverberation (paper section 4): a simulated room, by pyroomacoustics, or a measured impulse response."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dawp.errors import BadInput, printable
from dawp.settings import setting
from dawp.simulate.geometry import FARTHEST, FROM_WALLS, LARGEST_ROOM, NEAREST, SMALLEST_ROOM, Metres, metres
from dawp.tasks.base import BLIND, FAST, CorruptionConfig, Task, register

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dawp.operators.base import Operator
    from dawp.problem import Problem

CLIPPING = 0.99
_DRAWN_PLACE = f"drawn, {FROM_WALLS:g} m and more from the walls, {NEAREST:g} to {FARTHEST:g} m from the"


@dataclass(frozen=True)
class ReverbConfig(CorruptionConfig):
    """Reverb: the reverberation to add to clean clips (pairs contain reverberation already)."""

    rt60: float = setting(
        0.2,
        "reverberation time of the simulated room in seconds (0.1, 0.2 and 0.5 in the paper)",
        above=0,
        at_most=10,
        brief="reverberation time of the simulated room in seconds",
    )
    room_dim: Metres | None = setting(
        None,
        "length, width and height of the room in metres, as X,Y,Z",
        at_least=1,
        at_most=100,
        none=f"drawn, from {metres(SMALLEST_ROOM)} to {metres(LARGEST_ROOM)}",
    )
    source_pos: Metres | None = setting(
        None,
        "position of the source in the room in metres, as X,Y,Z",
        above=0,
        at_most=100,
        none=f"{_DRAWN_PLACE} microphone",
    )
    mic_pos: Metres | None = setting(
        None,
        "position of the microphone in the room in metres, as X,Y,Z",
        above=0,
        at_most=100,
        none=f"{_DRAWN_PLACE} source",
    )
    ray_tracing: bool = setting(
        False, "use ray tracing for all but the first three reflections, instead of only the image method"
    )
    rir_source: Path | None = setting(
        None,
        "sound file, or folder of sound files, with measured impulse responses to use instead of a simulated room",
        none="a simulated room",
        brief="measured impulse responses to use",
    )
    reference: str = setting(
        "direct",
        "clean reference: the direct-path signal, the dry clip with the direct path's delay and gain, or the dry clip "
        "without the delay",
        choices=("direct", "dry", "unaligned"),
    )
    rir: Path | None = setting(
        None,
        "sound file with the impulse response of the room of the recordings to restore (--restore); the default of "
        "--method is then least_squares. If it has as many channels as a recording, each channel has its own response; "
        "otherwise the first one applies to all",
        none="the room is unknown",
    )

    joint_channels: bool = setting(
        False,
        "predict the reverberation of each channel from all channels of the recording, for several microphones in one "
        "room (--restore with --method wpe_late or wpe_long); otherwise each channel is predicted from itself",
        brief="predict the reverberation from all channels",
    )

    restore_only: ClassVar[tuple[str, ...]] = ("rir", "joint_channels")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rir is not None and not self.rir.is_file():
            raise BadInput(f"rir must be a sound file, got {printable(self.rir)}", code="not_found")
        if self.rir_source is not None and not self.rir_source.exists():
            raise BadInput(
                f"rir_source must be a sound file or a folder of them, got {printable(self.rir_source)}",
                code="not_found",
            )

    def identity(self) -> dict[str, Any]:
        room = ("rt60", "room_dim", "source_pos", "mic_pos", "ray_tracing") if self.rir_source else ()
        return {name: value for name, value in super().identity().items() if name not in room}

    def restore_identity(self, estimates_noise: bool) -> dict[str, Any]:
        joint = {"joint_channels": True} if self.joint_channels else {}
        return {"rir": self.rir, **joint} if self.rir else joint

    @property
    def default_method(self) -> str | None:
        return "least_squares" if self.rir else None

    def check_files(self) -> None:
        if self.rir:
            from dawp.io.impulse_response import read_impulse_response

            read_impulse_response(self.rir)

    def operator_index(self, channel: int, channels: int) -> int:
        if self.rir is None:
            return 0
        from dawp.io.impulse_response import read_impulse_response

        return channel if len(read_impulse_response(self.rir)) == channels else 0

    def operator(self, sample_rate: int, index: int) -> Operator | None:
        if self.rir is None:
            return None
        from dawp.io.impulse_response import read_impulse_response
        from dawp.operators.convolution import Convolution

        response = read_impulse_response(self.rir, sample_rate)[index]
        delay = int(response.abs().argmax())
        return Convolution(response / response[delay], delay)

    def label(self) -> str:
        return self.rir_source.resolve().stem if self.rir_source else f"rt60-{self.rt60:g}s"


def add_reverb(clean: Tensor, sample_rate: int, config: ReverbConfig, rng: torch.Generator) -> Problem:
    """Add reverberation to a clean clip; see ``add_reverb_to_pair``."""
    return add_reverb_to_pair(clean, clean, sample_rate, config, rng)


def add_reverb_to_pair(
    clean: Tensor, observed: Tensor, sample_rate: int, config: ReverbConfig, rng: torch.Generator
) -> Problem:
    """Add reverberation to a clean clip, or to a corrupted version of it.

    Let h be the impulse response and d its direct path, both shifted to a delay of less than a sample and scaled to a
    gain of 1 of the direct path. The corrupted clip is h * y, and the clean one is d * s or, if ``reference`` is dry, s
    delayed by the same fraction of a sample. If y = s, the two are aligned in time and level, and differ only by the
    reflections. If ``reference`` is unaligned, s is the clean clip and h keeps its delay. If a sample exceeds 0.99,
    both are scaled down.

    Args:
        clean: dry clip s ``[T]``.
        observed: s, or a corrupted version y of it ``[T]``.
        sample_rate: its rate in Hz.
        config: the room, or the source of impulse responses.
        rng: source of the room, the positions in it, and the choice of file.

    Returns:
        The problem, whose facts include ``rt60`` (measured from the impulse response, in seconds), ``drr_db`` (energy
        of the direct path over that of the reflections), the room and the positions.

    Raises:
        BadInput: the clip or the impulse response is silent, the positions are outside the room, or no absorption
            gives the requested RT60.
    """
    import torchaudio.functional

    from dawp.dsp.alignment import delayed
    from dawp.io.audio import level_dbfs
    from dawp.problem import Problem
    from dawp.simulate.rooms import read_response, simulate_response

    if not clean.any():
        raise BadInput("the clean clip is silent: reverberation does not change it", code="unusable_recording")
    if config.rir_source:
        response = read_response(config.rir_source, sample_rate, rng)
    else:
        places = config.room_dim, config.source_pos, config.mic_pos
        response = simulate_response(config.rt60, sample_rate, rng, *places, config.ray_tracing)
    dry = clean.double()
    skipped = 0 if config.reference == "unaligned" else response.delay
    if response.delay - skipped >= len(dry):
        raise BadInput(
            f"the delay to the microphone is {response.delay / sample_rate:.3f} s, longer than the clip",
            code="unusable_recording",
        )
    reverberant, direct = (
        torchaudio.functional.fftconvolve(waveform, h)[skipped : skipped + len(dry)]
        for waveform, h in ((observed.double(), response.whole), (dry, response.direct))
    )
    match config.reference:
        case "direct":
            reference = direct
        case "dry":
            reference = delayed(dry, response.fraction)
        case "unaligned":
            reference = dry
    gain = min(1.0, CLIPPING / max(reverberant.abs().max().item(), reference.abs().max().item()))
    reverberant, reference = (reverberant * gain).float(), (reference * gain).float()
    facts = {**response.facts, "reference": config.reference, "level_dbfs": level_dbfs(reverberant)}
    return Problem(reverberant, reference, sample_rate, facts=facts, rir=response.whole.float())


def adopt_reverberant(observed: Tensor, clean: Tensor | None, sample_rate: int, config: ReverbConfig) -> Problem:
    """Return the problem of a reverberant clip ``[T]`` and its clean version ``[T]`` or None, both unchanged."""
    from dawp.problem import Problem

    return Problem(observed, clean, sample_rate, joint_channels=config.joint_channels)


def describe_room(waveform: Tensor, sample_rate: int, config: ReverbConfig) -> dict[str, float]:
    """Estimate the room of a reverberant channel ``[T]``.

    Returns:
        ``rt60`` in seconds and ``drr_db``, the direct-to-reverberant energy ratio (``rt60_in_noise`` and
        ``estimate_drr`` in ``dsp.dereverberation``); NaN where they cannot be estimated. Empty if the room is known.
    """
    import numpy as np

    from dawp.dsp.dereverberation import estimate_drr, rt60_in_noise
    from dawp.dsp.noise import noise_floor
    from dawp.dsp.spectral import analyse, frame_hop

    if config.rir is not None:
        return {}
    spectrum = analyse(waveform, sample_rate)
    hop_seconds = frame_hop(len(waveform), sample_rate) / sample_rate
    power = np.abs(spectrum[None]) ** 2
    noise = noise_floor(power[0], sample_rate, hop_seconds)[0]
    rt60 = rt60_in_noise(power, noise[None], sample_rate, hop_seconds)
    return {"rt60": rt60, "drr_db": estimate_drr(spectrum, sample_rate)}


register(
    Task(
        name="dereverb",
        about="Remove reverberation: add it to clean recordings and remove it again, or restore reverberant ones "
        "with --restore.",
        settings=ReverbConfig,
        examples=(
            "hall.wav --restore -o restored.wav",
            "clean.wav --rt60 0.5 --preset fast",
            "clean/ --rir_source responses/ --baselines",
        ),
        corrupt=add_reverb,
        corrupt_pair=add_reverb_to_pair,
        presets={"restore": {**FAST, **BLIND, "method": "wpe_late"}},
        adopt=adopt_reverberant,
        describe=describe_room,
        quantities={"rt60": ("RT60", "s"), "drr_db": ("direct-to-reverberant ratio", "dB")},
    )
)
