"""Render solo instruments and, if espeak-ng is installed, speech to a folder, to train networks on.

Needs Debian's packages fluidsynth and fluid-soundfont-gm, for speech espeak-ng, and the Python package mido (extra
dev). The pieces are random tonal music: scales, chords, arpeggios and melodies in random keys, tempi and registers.

    .venv/bin/python scripts/make_training_data.py FOLDER --minutes 60
    .venv/bin/python scripts/make_training_data.py FOLDER --minutes 5 --instruments piano,harp --speech_minutes 5
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from make_music import Note, Part, render

SECONDS = 60
INSTRUMENTS = {"piano": 0, "harpsichord": 6, "vibraphone": 11, "guitar": 24, "violin": 40, "harp": 46, "flute": 73}
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
LOWEST, HIGHEST = 28, 100  # MIDI note numbers
VOICES = ("en-gb", "en-us", "de", "fr", "es", "it", "pt", "nl", "sv", "pl")
VARIANTS = ("m1", "m3", "m7", "f1", "f2", "f4")
SYLLABLES = "ba de fi go lu ma ne pi ro sa ta ve wi zo kra sti plo".split()


class Harmony:
    """A random key, tempo and sequence of chords.

    Args:
        rng: source of all draws.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.scale = rng.choice((MAJOR, MINOR))
        self.key = rng.randrange(12)
        self.beat = 60 / rng.uniform(50, 150)  # seconds
        self.chords = [0]
        while len(self.chords) < 8:
            self.chords.append((self.chords[-1] + rng.choice((3, 4, 5, 1, -2))) % 7)

    def note(self, degree: int, octave: int) -> int:
        """Return the MIDI note number of a degree of the scale, moved by octaves into the range of the instrument."""
        number = 60 + self.key + 12 * (octave + degree // 7) + self.scale[degree % 7]
        while number > HIGHEST:
            number -= 12
        while number < LOWEST:
            number += 12
        return number

    def chord_at(self, beat: float) -> int:
        """Return the degree of the chord, which lasts four beats."""
        return self.chords[int(beat // 4) % len(self.chords)]


def scales(harmony: Harmony, octave: int) -> list[Note]:
    """Runs up and down the scale."""
    rng, notes, beat, degree, direction = harmony.rng, list[Note](), 0.0, 0, 1
    step = rng.choice((0.25, 0.5, 1.0))
    while beat * harmony.beat < SECONDS:
        notes.append(_note(harmony, beat, step * rng.uniform(0.5, 1.2), harmony.note(degree, octave)))
        degree += direction
        if not -7 <= degree <= 14 or rng.random() < 0.05:
            direction = -direction
        beat += step
    return notes


def chords(harmony: Harmony, octave: int) -> list[Note]:
    """Chords of three to five notes."""
    rng, notes, beat = harmony.rng, list[Note](), 0.0
    while beat * harmony.beat < SECONDS:
        length = rng.choice((1.0, 2.0, 4.0))
        for step in (0, 2, 4, 6, 7)[: rng.randint(3, 5)]:
            number = harmony.note(harmony.chord_at(beat) + step, octave)
            notes.append(_note(harmony, beat + rng.uniform(0, 0.03), length * 0.95, number))
        beat += length
    return notes


def arpeggios(harmony: Harmony, octave: int) -> list[Note]:
    """Broken chords whose notes ring on."""
    rng, notes, beat, index = harmony.rng, list[Note](), 0.0, 0
    step, pattern = rng.choice((0.25, 0.5)), [rng.choice((0, 2, 4, 7, 9, 11)) for _ in range(8)]
    while beat * harmony.beat < SECONDS:
        number = harmony.note(harmony.chord_at(beat) + pattern[index % 8], octave)
        notes.append(_note(harmony, beat, rng.uniform(0.5, 3), number))
        beat, index = beat + step, index + 1
    return notes


def melody(harmony: Harmony, octave: int) -> list[Note]:
    """A random walk over the scale, with rests."""
    rng, notes, beat, degree = harmony.rng, list[Note](), 0.0, 0
    while beat * harmony.beat < SECONDS:
        length = rng.choice((0.25, 0.5, 0.5, 1.0, 2.0))
        degree = min(max(degree + rng.choice((-4, -2, -1, 1, 2, 3)), -5), 12)
        if rng.random() > 0.1:
            notes.append(_note(harmony, beat, length, harmony.note(degree, octave)))
        beat += length
    return notes


PATTERNS: tuple[Callable[[Harmony, int], list[Note]], ...] = (scales, chords, arpeggios, melody)


def _note(harmony: Harmony, beat: float, beats: float, number: int) -> Note:
    return (harmony.beat * beat, harmony.beat * beats, number, harmony.rng.randint(35, 115))


def piece(program: int, seed: int) -> list[Part]:
    """Return one or two voices of one instrument in one key."""
    harmony = Harmony(random.Random(seed))
    count = harmony.rng.choice((1, 2, 2))
    parts = []
    for _ in range(count):
        pattern, octave = harmony.rng.choice(PATTERNS), harmony.rng.choice((-2, -1, 0, 0, 1))
        notes = pattern(harmony, octave)
        parts.append(Part(program, lambda rng, octave, notes=notes: notes))
    return parts


def speak(path: Path, seed: int) -> None:
    """Write nonsense sentences by espeak-ng, in a random voice."""
    rng = random.Random(seed)
    sentences = []
    for _ in range(30):
        words = ["".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(3, 9))]
        sentences.append(" ".join(words) + rng.choice(".?!"))
    voice = f"{rng.choice(VOICES)}+{rng.choice(VARIANTS)}"
    speed, pitch = rng.randint(120, 200), rng.randint(20, 80)
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(path), " ".join(sentences)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the files")
    parser.add_argument("--minutes", type=int, default=60, help="minutes of music (default: 60)")
    parser.add_argument("--instruments", default="piano", help=f"any of {','.join(INSTRUMENTS)} (default: piano)")
    parser.add_argument("--speech_minutes", type=int, default=0, help="minutes of speech (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the pieces; another seed for other pieces")
    args = parser.parse_args()
    names = args.instruments.split(",")
    if unknown := [name for name in names if name not in INSTRUMENTS]:
        parser.error(f"instruments must be any of {','.join(INSTRUMENTS)}, got {unknown[0]}")
    args.folder.mkdir(parents=True, exist_ok=True)
    for index in range(args.minutes * 60 // SECONDS):
        name, number = names[index % len(names)], 10000 * args.seed + index
        render(args.folder / f"{name}_{number:05d}.flac", piece(INSTRUMENTS[name], number), number, SECONDS)
    if args.speech_minutes and not shutil.which("espeak-ng"):
        parser.error("speech needs the program espeak-ng (on Debian: apt-get install espeak-ng)")
    for index in range(args.speech_minutes):
        number = 10000 * args.seed + index
        speak(args.folder / f"speech_{number:05d}.wav", number)
    print(f"{args.folder}: {args.minutes} minutes of music, {args.speech_minutes} of speech")


if __name__ == "__main__":
    main()
