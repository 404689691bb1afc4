"""Render 24 pieces of music of many kinds to a folder, to check that restoration does not harm music.

Needs Debian's packages fluidsynth and fluid-soundfont-gm, and the Python package mido (extra dev):

    .venv/bin/python scripts/make_music.py FOLDER
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mido
import soundfile

RATE = 44100
SECONDS = 6
SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
TICKS_PER_SECOND = 960
DRUM_CHANNEL = 9
SCALE = (0, 2, 3, 5, 7, 8, 10)  # natural minor, in semitones
PROGRESSION = (0, 5, 3, 4)  # degrees of the scale

Note = tuple[float, float, int, int]  # start and duration in seconds, MIDI note number, velocity


class Part(NamedTuple):
    """One instrument: its General MIDI program (from 0) and the notes that it plays."""

    program: int
    play: Callable[[random.Random, int], list[Note]]
    octave: int = 0  # added to the middle register


def pitch(degree: int, octave: int) -> int:
    """MIDI note number of a degree of the scale above A3."""
    return 57 + 12 * (octave + degree // 7) + SCALE[degree % 7]


def chords(rng: random.Random, octave: int) -> list[Note]:
    """Sustained triads with the octave, one every 1.5 s."""
    return [
        (1.5 * bar, 1.5, pitch(PROGRESSION[bar % 4] + step, octave), rng.randint(70, 95))
        for bar in range(4)
        for step in (0, 2, 4, 7)
    ]


def drone(rng: random.Random, octave: int) -> list[Note]:
    """One chord for the whole piece."""
    return [(0.0, float(SECONDS), pitch(step, octave), 90) for step in (0, 2, 4, 7, 9, 11)]


def melody(rng: random.Random, octave: int) -> list[Note]:
    """A random walk over the scale, legato."""
    notes, start, degree = [], 0.0, 4
    while start < SECONDS - 0.3:
        duration = rng.choice((0.2, 0.3, 0.4, 0.8))
        degree = min(max(degree + rng.choice((-2, -1, 1, 2, 3)), 0), 11)
        notes.append((start, duration, pitch(degree, octave), rng.randint(60, 110)))
        start += duration
    return notes


def arpeggio(rng: random.Random, octave: int) -> list[Note]:
    """Broken chords in fast notes that ring on."""
    steps = (0, 2, 4, 7, 9, 7, 4, 2)
    return [
        (0.15 * i, 0.5, pitch(PROGRESSION[int(0.15 * i / 1.5) % 4] + steps[i % 8], octave), rng.randint(60, 100))
        for i in range(int(SECONDS / 0.15) - 2)
    ]


def sparse(rng: random.Random, octave: int) -> list[Note]:
    """A few notes with silence after them."""
    return [(start, 0.8, pitch(rng.randrange(12), octave), 100) for start in (0.2, 1.9, 3.5, 4.8)]


def bass(rng: random.Random, octave: int) -> list[Note]:
    """The root of each chord in quavers."""
    return [(0.375 * i, 0.35, pitch(PROGRESSION[i // 4 % 4], octave - 2), 100) for i in range(16)]


def drums(rng: random.Random, octave: int) -> list[Note]:
    """Kick, snare, hi-hat and crash."""
    notes = [(0.25 * i, 0.2, 42 if i % 4 else 46, rng.randint(60, 100)) for i in range(4 * SECONDS)]
    notes += [(1.0 * i, 0.2, 36, 110) for i in range(SECONDS)]
    notes += [(1.0 * i + 0.5, 0.2, 38, 105) for i in range(SECONDS)]
    return [*notes, (0.0, 2.0, 49, 100), (4.0, 2.0, 51, 100)]


def congas(rng: random.Random, octave: int) -> list[Note]:
    """Hand drums and shaker without a drum kit."""
    return [
        (0.125 * i, 0.1, rng.choice((60, 61, 62, 63, 64, 70, 75)), rng.randint(50, 110)) for i in range(8 * SECONDS - 4)
    ]


PIECES: dict[str, list[Part]] = {
    "piano": [Part(0, chords), Part(0, melody, 1)],
    "piano_arpeggio": [Part(0, arpeggio)],
    "harpsichord": [Part(6, arpeggio)],
    "strings": [Part(48, chords), Part(48, melody, 1)],
    "slow_strings": [Part(49, chords), Part(43, bass, 1)],
    "church_organ": [Part(19, chords), Part(19, bass, 1)],
    "organ_drone": [Part(19, drone, -1), Part(19, drone)],
    "reed_organ": [Part(20, chords), Part(20, melody, 1)],
    "choir": [Part(52, chords), Part(53, melody)],
    "brass": [Part(61, chords), Part(56, melody, 1)],
    "drums": [Part(-1, drums)],
    "congas": [Part(-1, congas)],
    "drums_and_bass": [Part(-1, drums), Part(33, bass)],
    "tubular_bells": [Part(14, sparse), Part(9, sparse, 2)],
    "music_box": [Part(10, arpeggio, 1)],
    "vibraphone": [Part(11, arpeggio), Part(32, bass)],
    "harp": [Part(46, arpeggio)],
    "guitar": [Part(24, arpeggio), Part(25, bass, 1)],
    "distorted_guitar": [Part(30, chords, -1), Part(-1, drums)],
    "flute": [Part(73, melody, 1)],
    "violin": [Part(40, melody, 1)],
    "accordion": [Part(21, chords), Part(21, melody, 1)],
    "orchestra": [
        *(Part(48, chords), Part(42, chords, -1), Part(60, melody), Part(56, melody, 1)),
        *(Part(73, arpeggio, 1), Part(47, bass), Part(-1, congas)),
    ],
    "rock_band": [Part(29, chords), Part(34, bass), Part(-1, drums), Part(81, melody, 1)],
}
"""Every piece by name, as its parts."""


def midi(parts: list[Part], seed: int) -> mido.MidiFile:
    """A piece as a MIDI file."""
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_SECOND)
    tempo = mido.MetaMessage("set_tempo", tempo=1_000_000)  # one beat a second
    file.tracks.append(mido.MidiTrack([tempo]))
    for number, part in enumerate(parts):
        channel = DRUM_CHANNEL if part.program < 0 else number
        events = []
        for start, duration, note, velocity in part.play(random.Random(seed + number), part.octave):
            events.append((start, mido.Message("note_on", channel=channel, note=note, velocity=velocity)))
            events.append((start + duration, mido.Message("note_off", channel=channel, note=note)))
        track, now = mido.MidiTrack(), 0
        if part.program >= 0:
            track.append(mido.Message("program_change", channel=channel, program=part.program))
        for time, message in sorted(events, key=lambda event: event[0]):
            tick = round(time * TICKS_PER_SECOND)
            track.append(message.copy(time=tick - now))
            now = tick
        file.tracks.append(track)
    return file


def render(path: Path, parts: list[Part], seed: int, seconds: int) -> None:
    """Write a piece as a mono FLAC file.

    Raises:
        SystemExit: the sound font is missing.
    """
    if not SOUND_FONT.exists():
        raise SystemExit(f"{SOUND_FONT} is missing: apt-get install fluidsynth fluid-soundfont-gm")
    with tempfile.TemporaryDirectory() as scratch:
        score, sound = Path(scratch, "piece.mid"), Path(scratch, "piece.wav")
        midi(parts, seed).save(score)
        command = ["fluidsynth", "-ni", "-g", "0.6", "-r", str(RATE), "-O", "float", "-F", sound, SOUND_FONT, score]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        samples = soundfile.read(sound, frames=seconds * RATE)[0].mean(axis=1)
    soundfile.write(path, samples * (0.5 / abs(samples).max()), RATE, subtype="PCM_24")
    print(f"{path.name}: {len(samples) / RATE:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the FLAC files")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, parts) in enumerate(PIECES.items()):
        render(folder / f"{name}.flac", parts, 100 * seed, SECONDS)


if __name__ == "__main__":
    main()
