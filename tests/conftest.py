"""Common fixtures: clips, tiny settings and the command line."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from dawp.cli import main
from dawp.errors import BadInput, ErrorCode

torch.set_num_threads(1)  # tests run in parallel

if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "dawp" / "samples"
RATE = 16000

TINY = {
    "depth": 1,
    "channels": 4,
    "lstm_layers": 0,
    "resample": False,
    "epochs": 3,
    "pesq_every": 3,
    "device": "cpu",
    "workers": 1,
}
"""Settings of a network and a fit that take milliseconds per epoch."""

TINY_FLAGS = [
    *("--depth", "1", "--channels", "4", "--lstm_layers", "0", "--no_resample"),
    *("--epochs", "3", "--pesq_every", "3", "--device", "cpu", "--workers", "1"),
    *("--no_report", "--no_pictures"),
]

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def same_random_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture
def speech() -> Tensor:
    """Return one second of the bundled speech clip, ``[16000]``."""
    samples, rate = soundfile.read(SAMPLES / "speech.wav", dtype="float32")
    assert rate == RATE
    return torch.from_numpy(samples[:RATE])


@pytest.fixture
def run_task(tmp_path: Path) -> Command:
    """Return a function that runs a task with the tiny flags in an empty folder; results are in ``tmp_path/evals``.

    The command line is called in this process, where torch is already loaded. With ``real``, or if the command starts
    processes, ``TASK.py`` runs in a separate process.
    """

    def run(
        task: str, *flags: object, cwd: Path = tmp_path, tiny: bool = True, real: bool = False
    ) -> subprocess.CompletedProcess[str]:
        arguments = [*(TINY_FLAGS if tiny else []), *map(str, flags)]
        if not real and arguments.count("--workers") == 1 and arguments[arguments.index("--workers") + 1] == "1":
            return call_main(task, arguments, cwd)
        command = [sys.executable, str(ROOT / f"{task}.py"), *arguments]
        return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300)

    return run


def call_main(task: str, arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, and return its output and exit code."""
    out, err = io.StringIO(), io.StringIO()
    logger, before = logging.getLogger("dawp"), Path.cwd()
    state = logger.handlers[:], logger.level, logger.propagate
    os.chdir(cwd)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main(task, arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        os.chdir(before)
        logger.handlers[:], logger.level, logger.propagate = state
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@contextmanager
def refused_as(code: ErrorCode, match: str | None = None) -> Iterator[pytest.ExceptionInfo[BadInput]]:
    """Check that the block raises BadInput with a code; ``match`` is a pattern for the values in the message."""
    with pytest.raises(BadInput, match=match) as refusal:
        yield refusal
    assert refusal.value.code == code, refusal.value


@pytest.fixture
def denoise(run_task: Command) -> Command:
    """Return ``run_task`` for denoise.py."""
    return partial(run_task, "denoise")


def environment() -> dict[str, str]:
    """Return the environment variables of a command with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def write_sound(path: Path, samples: Tensor | None = None, rate: int = RATE, **how: str) -> Path:
    """Write a sound file; by default, one second of seeded noise."""
    if samples is None:
        samples = torch.randn(RATE, generator=torch.Generator().manual_seed(1)) * 0.1
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.numpy(), rate, **how)
    return path


def repetitions(evals: Path) -> list[Path]:
    """Return the repetition folders of the only run in an output folder."""
    (run,) = evals.glob("*/*")
    return sorted(path for path in run.iterdir() if path.is_dir())


def running(pid):
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def numbers(run):
    """Return all results of a run except the time."""
    found = {}
    for repetition_dir in sorted(path for path in run.iterdir() if path.is_dir()):
        facts = json.loads((repetition_dir / "result.json").read_text())
        del facts["seconds"]
        found[repetition_dir.name] = (
            facts,
            (repetition_dir / "metrics.csv").read_text(),
            (repetition_dir / "restored.wav").read_bytes(),
            (repetition_dir / "best_si_snr.wav").read_bytes(),
        )
    return found
