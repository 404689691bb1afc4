"""Restore chains of two corruptions: by each task alone, in the reverse order and in the order of the corruption.

    python benchmarks/chains.py --source recordings/

Corrupts the first seconds of each recording by two tasks, and restores them without the settings of the corruption.
Prints the SI-SNR and PESQ to the clean clip, means over the recordings.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import common
import torch
from pesq import PesqError, pesq
from torch import Tensor

import dawp
from dawp.config import Config
from dawp.io import audio
from dawp.io.sources import sounds_at
from dawp.metrics.functions import si_snr
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.tasks.base import make_problem

RATE = 16000
CHAINS = {
    "dereverb:rt60=0.3 | denoise:snr=15": ("dereverb", "denoise:method=nmf"),
    "denoise:snr=15 | declip:clip_sdr=7": ("denoise:method=nmf", "declip"),
    "declip:clip_sdr=7 | denoise:snr=15": ("declip", "denoise:method=nmf"),
}
"""Corruptions, and the restorations by the first and the second task."""


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument(
        "--source", type=Path, default=Path("dawp/samples"), help="clean clip, or folder of clean clips"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of each clip")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = [audio.read(path, RATE)[: round(args.seconds * RATE)] for path in sounds_at(args.source)]
    rows = []
    for chain, (first, second) in CHAINS.items():
        config = Config.of("chain", corrupt=chain).corruption
        problems = [make_problem("chain", clip, None, RATE, config, seeded(i, "chain")) for i, clip in enumerate(clips)]
        variants = {
            "corrupted": None,
            f"only {first}": first,
            f"only {second}": second,
            "reverse order": f"{first} | {second}",
            "order of the corruption": f"{second} | {first}",
        }
        rows += [
            {"corruption": chain.replace(" | ", ", then "), "restoration": name, **score(problems, text)}
            for name, text in variants.items()
        ]
    common.report("chains", common.machine(), rows, args.json, clips=len(clips), seconds=args.seconds)


def score(problems: list[Problem], chain: str | None) -> dict[str, float]:
    """Return mean SI-SNR and PESQ of the restorations by a chain; None for the corrupted clips."""
    estimates = [
        problem.observed if chain is None else dawp.restore(problem.observed, RATE, "chain", corrupt=chain)
        for problem in problems
    ]
    pairs = [(estimate, problem.clean) for estimate, problem in zip(estimates, problems, strict=True)]
    return {
        "SI-SNR (dB)": statistics.fmean(si_snr(estimate, clean).item() for estimate, clean in pairs),
        "PESQ": statistics.fmean(quality(estimate, clean) for estimate, clean in pairs),
    }


def quality(estimate: Tensor, clean: Tensor) -> float:
    """Return wide-band PESQ; NaN for a clip without an utterance."""
    try:
        return float(pesq(RATE, clean.numpy(), estimate.numpy(), "wb"))
    except PesqError:
        return float("nan")


if __name__ == "__main__":
    main()
