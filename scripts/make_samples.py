"""Make the bundled clips of dawp/samples: speech, a singing-like voice and an instrument, 16 kHz, about 3 s each.

Needs Debian's packages espeak-ng, fluidsynth and fluid-soundfont-gm:

    .venv/bin/python scripts/make_samples.py
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional
from scipy.signal import lfilter

RATE = 16000
SECONDS = 3.0
PEAK = 0.5
SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
SAMPLES = Path(__file__).resolve().parents[1] / "dawp" / "samples"
TEXT = "The network hears the voice before it learns the noise."


def main() -> None:
    for program in ("espeak-ng", "fluidsynth"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed: apt-get install espeak-ng fluidsynth fluid-soundfont-gm")
    if not SOUND_FONT.exists():
        raise SystemExit(f"{SOUND_FONT} is missing: apt-get install fluid-soundfont-gm")
    with tempfile.TemporaryDirectory() as folder:
        clips = {"speech": speech(Path(folder)), "singing": singing(), "guitar": guitar(Path(folder))}
    for name, clip in clips.items():
        clip = clip[: round(SECONDS * RATE)]
        fade = np.minimum(1, np.arange(len(clip))[::-1] / (0.02 * RATE))
        soundfile.write(SAMPLES / f"{name}.wav", clip * fade * (PEAK / np.abs(clip).max()), RATE, subtype="PCM_16")
        print(f"{name}.wav: {len(clip) / RATE:.2f} s")


def speech(folder: Path) -> np.ndarray:
    """A sentence spoken by espeak-ng, its silence at the start cut off."""
    subprocess.run(["espeak-ng", "-v", "en-gb", "-s", "165", "-p", "45", "-w", folder / "speech.wav", TEXT], check=True)
    clip = read(folder / "speech.wav")
    return clip[np.argmax(np.abs(clip) > 0.02 * np.abs(clip).max()) :]


def singing() -> np.ndarray:
    """Four sung notes on the vowels a, e, i, o: a glottal pulse train with vibrato through formant filters."""
    rng = np.random.default_rng(0)
    notes = [220.0, 246.9, 293.7, 261.6]  # Hz
    formants = {  # centre frequencies and bandwidths in Hz of a tenor's vowels
        "a": [(650, 80), (1080, 90), (2650, 120), (2900, 130)],
        "e": [(400, 70), (1700, 80), (2600, 100), (3200, 120)],
        "i": [(290, 40), (1870, 90), (2800, 100), (3250, 120)],
        "o": [(400, 60), (800, 80), (2600, 100), (2800, 120)],
    }
    length = round(SECONDS * RATE / len(notes))
    time = np.arange(length * len(notes)) / RATE
    glide = np.repeat(notes, length)
    glide = lfilter([0.004], [1, -0.996], glide - notes[0]) + notes[0]  # some 15 ms from note to note
    pitch = glide * (1 + 0.012 * np.sin(2 * np.pi * 5.5 * time) * np.minimum(1, time))
    phase = np.cumsum(pitch) / RATE
    pulses = np.diff(np.floor(phase), prepend=0.0)
    breath = 0.002 * rng.standard_normal(len(time))
    source = lfilter([1], [1, -0.97], lfilter([1], [1, -0.9], pulses + breath))
    voiced = np.zeros(len(time))
    for i, resonances in enumerate(formants.values()):
        filtered = source
        for centre, width in resonances:
            radius = np.exp(-np.pi * width / RATE)
            poles = [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2]
            filtered = lfilter([sum(poles)], poles, filtered)
        ramp = np.interp(np.arange(len(time)), [i * length - 400, i * length + 400], [0, 1])
        ramp -= np.interp(np.arange(len(time)), [(i + 1) * length - 400, (i + 1) * length + 400], [0, 1])
        voiced += ramp * filtered
    return np.diff(voiced, prepend=0.0) * np.minimum(1, time / 0.05)


def guitar(folder: Path) -> np.ndarray:
    """A broken chord on a nylon guitar, played by fluidsynth with FluidR3 GM."""
    (folder / "chord.mid").write_bytes(
        midi_file([(i * 0.3, note) for i, note in enumerate([45, 52, 57, 60, 64, 60, 57, 52])])
    )
    command = ["fluidsynth", "-ni", "-g", "0.8", "-R", "0", "-C", "0", "-r", "48000", "-F", folder / "guitar.wav"]
    subprocess.run([*command, SOUND_FONT, folder / "chord.mid"], check=True, stdout=subprocess.DEVNULL)
    clip = read(folder / "guitar.wav")
    return clip[np.argmax(np.abs(clip) > 0.02 * np.abs(clip).max()) :]


def midi_file(notes: list[tuple[float, int]]) -> bytes:
    """A standard MIDI file, 1000 ticks a second, of notes (start in seconds, number) that ring on."""
    events = b"\x00\xff\x51\x03\x0f\x42\x40" + b"\x00\xc0\x18"  # 1 s a quarter note; nylon guitar
    now = 0
    for start, note in notes:
        tick = round(start * 1000)
        events += variable_length(tick - now) + bytes([0x90, note, 96])
        now = tick
    events += variable_length(4000) + b"\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4, "big") + b"\x00\x00\x00\x01" + (1000).to_bytes(2, "big")
    return header + b"MTrk" + len(events).to_bytes(4, "big") + events


def variable_length(number: int) -> bytes:
    """MIDI's variable-length quantity."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(0x80 | number & 0x7F)
    return bytes(reversed(groups))


def read(path: Path) -> np.ndarray:
    """A sound file as mono at 16 kHz."""
    samples, rate = soundfile.read(path, always_2d=True)
    return torchaudio.functional.resample(torch.from_numpy(samples.mean(axis=1)), rate, RATE).numpy()


if __name__ == "__main__":
    main()
