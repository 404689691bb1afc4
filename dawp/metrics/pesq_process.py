"""Slow metrics in a process of its own: requests on standard input, values on standard output.

It is run by its path and imports neither torch nor the rest of the toolkit, so that it starts at once and stays small.
A request is ``HEADER`` (bytes of the function's name, sample rate, samples T), the name ``module:function`` of the
metric's function, the target and the estimate (float32, T each); an answer is one float64, NaN where the metric is not
defined.
"""

from __future__ import annotations

import importlib
import os
import signal
import struct
import sys
from typing import Any

HEADER = struct.Struct("<qqq")
ANSWER = struct.Struct("<d")
OWN_MODULE = "dawp.metrics.pesq_process"  # as the toolkit imports this file


def pesq_score(estimate: Any, target: Any, sample_rate: int) -> float:
    """PESQ of one pair (NumPy, float32, ``[T]``): wide band at 16 kHz, narrow band at 8 kHz.

    Raises:
        ValueError: it is not defined for the pair; the message gives the reason.
    """
    from pesq import PesqError, pesq

    try:
        return float(pesq(sample_rate, target, estimate, "wb" if sample_rate == 16000 else "nb"))
    except PesqError as error:
        reason = error.args[0]
        raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent process
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output that a library prints must not mix with the answers
    import numpy as np

    functions: dict[str, Any] = {}
    while header := requests.read(HEADER.size):
        size, rate, length = HEADER.unpack(header)
        name = requests.read(size).decode()
        target, estimate = (np.frombuffer(requests.read(4 * length), dtype="<f4") for _ in range(2))
        try:
            if name not in functions:
                functions[name] = _load(name)
            value = float(functions[name](estimate, target, rate))
        except Exception:  # functions from outside the package can raise anything
            value = float("nan")
        try:
            answers.write(ANSWER.pack(value))
            answers.flush()
        except BrokenPipeError:  # the parent process has ended
            os._exit(0)


def _load(name: str) -> Any:
    """Import a function; those of this file are taken from it, without an import of the toolkit."""
    module, _, function = name.partition(":")
    return getattr(sys.modules[__name__] if module == OWN_MODULE else importlib.import_module(module), function)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose modules have names of their own
    main()
