"""Results of several repetitions in one place: means, spreads, NaN counts, and the table a person reads."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from dawp.stopping import EMA

LABELS = {"si_snr": "SI-SNR (dB)", "psnr": "PSNR (dB)", "pesq": "PESQ"}


def summarise(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Statistics over repetitions, per metric of input, best, gain and best epoch.

    Args:
        results: the content of one result.json each.

    Returns:
        ``{"repetitions": n, "diverged": n, "metrics": {metric: {"input": s, "best": s, "gain": s, "epoch": s}}}``
        with ``s = {"mean", "std", "count", "nan"}``: NaN values are counted in ``nan`` and in nothing else; ``std``
        is the sample standard deviation, NaN for fewer than two values.
    """
    names = list(dict.fromkeys(name for result in results for name in result["best"]))
    metrics = {}
    for name in names:
        bests = [result["best"][name] for result in results]
        metrics[name] = {
            "input": _statistics(result["input"][name.removeprefix(EMA)] for result in results),
            "best": _statistics(best["value"] for best in bests),
            "gain": _statistics(best["gain"] for best in bests),
            "epoch": _statistics(best["epoch"] for best in bests),
        }
    diverged = sum(result["error"] is not None for result in results)
    return {"repetitions": len(results), "diverged": diverged, "metrics": metrics}


def rows(results: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Header and one row for each repetition, for summary.csv."""
    names = list(dict.fromkeys(name for result in results for name in result["best"]))
    plain = ["repetition", "recording", "epochs_run", "seconds", "error"]
    header = plain + [f"{what}_{name}" for name in names for what in ("input", "best", "gain", "epoch")]
    table = []
    for result in results:
        row = [result[name] for name in plain]
        for name in names:
            best = result["best"][name]
            row += [result["input"][name.removeprefix(EMA)], best["value"], best["gain"], best["epoch"]]
        table.append(row)
    return header, table


def table(summary: dict[str, Any]) -> str:
    """The summary as aligned text: corrupted, best, gain and epoch of each metric.

    Over several repetitions the numbers are means, the gain with its standard deviation.
    """
    several = summary["repetitions"] > 1
    lines = [f"{'':<18}{'corrupted':>10}{'best':>10}{'gain':>{18 if several else 10}}{'epoch':>8}"]
    for name, s in summary["metrics"].items():
        if name == f"{EMA}si_snr":
            lines.append("running mean of the outputs")
        given, best, gain, epoch = (_number(s[what]["mean"]) for what in ("input", "best", "gain", "epoch"))
        gains = f"{gain:+.2f}" + (f" ± {_number(s['gain']['std']):.2f}" if several else "")
        line = f"  {LABELS[name.removeprefix(EMA)]:<16}{given:>10.2f}{best:>10.2f}"
        line += f"{gains:>{18 if several else 10}}{epoch:>8.0f}"
        nan = s["best"]["nan"]
        lines.append(line + (f"  ({nan} of {summary['repetitions']} NaN, not in the means)" if nan else ""))
    lines.append("best: oracle stop, the epoch chosen by looking at the clean clip")
    if several:
        lines.append(f"means over {summary['repetitions']} repetitions")
    if summary["diverged"]:
        lines.append(f"{summary['diverged']} of {summary['repetitions']} fits diverged: their best before that counts")
    return "\n".join(lines)


def _statistics(values: Iterable[float | None]) -> dict[str, float]:
    """Mean, standard deviation and counts; None and NaN are one thing, a value that could not be computed."""
    every = [_number(value) for value in values]
    finite = [value for value in every if not math.isnan(value)]
    return {
        "mean": statistics.fmean(finite) if finite else math.nan,
        "std": statistics.stdev(finite) if len(finite) > 1 else math.nan,
        "count": len(finite),
        "nan": len(every) - len(finite),
    }


def _number(value: float | None) -> float:
    """A value as it was before JSON, which has no NaN, made it None."""
    return math.nan if value is None else float(value)
