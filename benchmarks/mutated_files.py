"""Restore damaged sound files (truncated, or with changed bytes) with the command line, and check the results.

    python benchmarks/mutated_files.py --count 200

Most files are restored in folders of 50, some individually. ffmpeg, or sox if ffmpeg fails, measures independently how
much sound a file contains. A file is a silent loss if the command wrote at least 0.1 s less, or nothing, and no warning
or error names the file. It is longer if the command wrote at least 0.1 s more, for example because libsndfile decodes
damaged frames that ffmpeg drops; this is not a fault. The exit code is 1 if there is a fault.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from common import machine, parser, report

from dawp.io.formats import FORMATS

ROOT = Path(__file__).resolve().parents[1]
SPEECH = ROOT / "dawp" / "samples" / "speech.wav"
COMMAND = [
    *(sys.executable, str(ROOT / "denoise.py"), "--restore", "--device", "cpu", "--workers", "1"),
    *("--depth", "1", "--channels", "4", "--lstm_layers", "0", "--epochs", "3"),
    *("--output_format", "wav", "--subtype", "FLOAT"),  # no warnings about the output
]
SECONDS = 1.0
TOLERANCE = 0.1  # seconds; longer than a frame of any codec
FOLDER_SIZE, SINGLES = 50, 10
FAULTS = ("tracebacks", "half-written", "not finite", "silent losses")


@dataclass
class Outcome:
    """Result of restoring one file."""

    path: Path
    kind: str
    lines: list[str]  # lines on standard error that name the file
    output: Path
    expected: float | None  # seconds decoded by another program; None if it decodes none

    @property
    def seconds(self) -> float:
        return soundfile.info(self.output).duration if self.output.exists() else 0.0

    def row(self) -> dict[str, int]:
        reported = any(": error: " in line or ": warning: " in line for line in self.lines)
        expected = self.expected or 0.0
        return {
            "files": 1,
            "restored": self.output.exists(),
            "with a warning": self.output.exists() and reported,
            "refused": not self.output.exists() and reported,
            "not finite": self.output.exists() and not np.isfinite(soundfile.read(self.output)[0]).all(),
            "silent losses": not reported and (not self.output.exists() or self.seconds < expected - TOLERANCE),
            "longer": self.expected is not None and not reported and self.seconds > expected + TOLERANCE,
        }


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--count", type=int, default=200, help="number of damaged files (default: 200)")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--keep", type=Path, help="folder for the files (default: a temporary one)")
    args = flags.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        kinds = write_files(folder / "in", args.count, random.Random(args.seed))
        outcomes, commands = [], []
        for source in sorted((folder / "in").iterdir()):
            single = source.name.startswith("single")
            results, about = restore(next(source.iterdir()) if single else source, folder / "out" / source.name, kinds)
            outcomes += results
            commands.append(about)
        rows = summarise(outcomes, commands)
        for outcome in outcomes:
            if outcome.row()["not finite"] or outcome.row()["silent losses"] or outcome.row()["longer"]:
                decoded = "nothing" if outcome.expected is None else f"{outcome.expected:.3f} s"
                print(f"{outcome.path.name}: written {outcome.seconds:.3f} s, decodable {decoded}, {outcome.lines}")
    codes = sorted(about["exit code"] for about in commands)
    report("mutated_files", machine(), rows, args.json, seed=args.seed, commands=len(commands), exit_codes=codes)
    return int(any(rows[-1][fault] for fault in FAULTS) or not set(codes) <= {0, 2, 3})


def write_files(folder: Path, count: int, rng: random.Random) -> dict[str, str]:
    """Write the damaged files, with one folder per command, and return the kind of each file by its name."""
    originals: dict[str, list[tuple[str, bytes]]] = {}
    for suffix, container, subtype in kinds_of_files():
        if content := original(suffix, container, subtype):
            kind = subtype if subtype in ("OPUS", "VORBIS") else container
            originals.setdefault(kind, []).append((suffix, content))
    kinds = {}
    for number in range(count):
        cycle, index = divmod(number, len(originals))
        kind = list(originals)[index]
        suffix, content = originals[kind][cycle % len(originals[kind])]
        group = f"single{number}" if number < SINGLES else f"folder{number // FOLDER_SIZE}"
        path = folder / group / f"{number:04d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damage(content, rng))
        kinds[path.name] = kind
    return kinds


def kinds_of_files() -> Iterator[tuple[str, str, str]]:
    """Yield the suffix, format and subtype of every kind of file that the toolkit reads and libsndfile writes."""
    for container in sorted(set(FORMATS.values())):
        suffixes = [suffix for suffix, name in FORMATS.items() if name == container]
        for subtype in soundfile.available_subtypes(container):
            if subtype.startswith("NMS_ADPCM"):  # ffmpeg mistakes it for AMR
                continue
            yield (".opus" if subtype == "OPUS" else suffixes[0]), container, subtype


def original(suffix: str, container: str, subtype: str) -> bytes:
    """Return a sound file in stereo, or in mono if the format has no stereo; empty if it cannot be written."""
    mono = soundfile.read(SPEECH, frames=int(SECONDS * 16000))[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        for samples in (np.stack([mono, mono[::-1]], axis=1), mono):
            with suppress(soundfile.SoundFileError):
                soundfile.write(path, samples, 16000, format=container, subtype=subtype)
                return path.read_bytes()
    return b""


def damage(content: bytes, rng: random.Random) -> bytes:
    """Truncate a file, or change some of its bytes: anywhere, consecutively, or in its header."""
    mode = rng.choice(["cut", "cut", "flip", "zero", "header", "insert"])
    start = rng.randrange(len(content))
    if mode == "cut":
        return content[:start]
    if mode == "insert":
        return content[:start] + rng.randbytes(rng.randrange(1, 2000)) + content[start:]
    changed = bytearray(content)
    if mode == "zero":
        changed[start : start + 2000] = bytes(len(changed[start : start + 2000]))
    for _ in range(0 if mode == "zero" else rng.randrange(1, 20)):
        changed[rng.randrange(64 if mode == "header" else len(content))] ^= rng.randrange(1, 256)
    return bytes(changed)


def restore(source: Path, output: Path, kinds: dict[str, str]) -> tuple[list[Outcome], dict[str, int]]:
    """Restore a file or a folder with the command line, and return the outcomes and facts about the command."""
    command = [*COMMAND, "--source", str(source), "-o", f"{output}/"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=1800)
    lines = re.split(r"[\n\r]", result.stderr)
    outcomes = [
        Outcome(
            path,
            kinds[path.name],
            [line for line in lines if path.name in line],
            (output / path.name).with_suffix(".wav"),
            decodable(path),
        )
        for path in ([source] if source.is_file() else sorted(source.iterdir()))
    ]
    hidden = list(output.rglob(".*")) if output.exists() else []
    without_record = [o for o in outcomes if o.output.exists() and not Path(f"{o.output}.json").exists()]
    about = {
        "exit code": result.returncode,
        "tracebacks": result.stderr.count("Traceback"),
        "half-written": len(hidden) + len(without_record),
    }
    return outcomes, about


def decodable(path: Path) -> float | None:
    """Return the seconds of sound in a file by ffmpeg, or else by sox; None if neither decodes any."""
    commands = (
        ["ffmpeg", "-v", "quiet", "-i", str(path), "-ac", "1", "-ar", "8000", "-f", "s16le", "-"],
        ["sox", "-V1", str(path), "-r", "8000", "-c", "1", "-b", "16", "-e", "signed", "-t", "raw", "-"],
    )
    for command in commands:
        if shutil.which(command[0]):
            samples = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=300).stdout
            if samples:
                return len(samples) / 2 / 8000
    return None


def summarise(outcomes: list[Outcome], commands: list[dict[str, int]]) -> list[dict[str, object]]:
    """Return a row for each kind of file, and one for all."""
    rows: list[dict[str, object]] = []
    for kind in [*sorted({outcome.kind for outcome in outcomes}), "all"]:
        counts = [outcome.row() for outcome in outcomes if kind in ("all", outcome.kind)]
        rows.append({"format": kind, **{name: sum(row[name] for row in counts) for name in counts[0]}})
    rows[-1] |= {fault: sum(about[fault] for about in commands) for fault in ("tracebacks", "half-written")}
    return rows


if __name__ == "__main__":
    if shutil.which("ffmpeg") is None:
        sys.exit("mutated_files.py needs ffmpeg")
    sys.exit(main())
