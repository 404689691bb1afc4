"""PESQ in a process of its own: requests on standard input, values on standard output.

It is run by its path and imports neither torch nor the rest of the toolkit, so that it starts at once and stays small.
A request is ``HEADER`` (sample rate, samples T), the target and the estimate (float32, T each); an answer is one
float64, NaN where PESQ is not defined.
"""

import os
import signal
import struct
import sys

HEADER = struct.Struct("<qq")
ANSWER = struct.Struct("<d")


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that asks
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    import numpy as np
    from pesq import PesqError, pesq

    while header := requests.read(HEADER.size):
        rate, length = HEADER.unpack(header)
        target, estimate = (np.frombuffer(requests.read(4 * length), dtype="<f4") for _ in range(2))
        try:
            value = float(pesq(rate, target, estimate, "wb" if rate == 16000 else "nb"))
        except (PesqError, ValueError):
            value = float("nan")
        try:
            answers.write(ANSWER.pack(value))
            answers.flush()
        except BrokenPipeError:  # whoever asked is gone
            os._exit(0)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose modules have names of their own
    main()
