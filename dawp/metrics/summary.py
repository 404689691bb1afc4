"""Results of several repetitions in one place: means, spreads, NaN counts, and the table a person reads."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dawp.metrics.names import EMA, GAP

LABELS = {
    f"{GAP}si_snr": "gap SI-SNR (dB)",
    f"{GAP}psnr": "gap PSNR (dB)",
    "si_snr": "SI-SNR (dB)",
    "psnr": "PSNR (dB)",
    "pesq": "PESQ",
}
"""Every metric, the telling ones first."""

FAR_BELOW = 3.0  # dB
WORTH_SHARING = 0.5  # dB: a share of less gain than that tells nothing
NOTHING = {"value": None, "gain": None, "epoch": None}


def summarise(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Statistics over repetitions, per metric of input, value, gain and epoch.

    Args:
        results: the content of one result.json each.

    Returns:
        ``{"repetitions": n, "diverged": n, "metrics": m, "restored": m, "blind": {name: m}, "baselines": {name: m}}``;
        ``metrics`` are those of the oracle stops; those of a blind stop also have ``share``, their mean gain as a share
        of the oracle's. And ``m = {metric: {"input": s, "best": s, "gain": s, "epoch": s}}`` and
        ``s = {"mean", "std", "count", "nan"}``: NaN values are counted in ``nan`` and in nothing else; ``std``
        is the sample standard deviation, NaN for fewer than two values. PESQ of the oracle stops also has
        ``far_below``, count and mean of the SI-SNR of those bests of it whose SI-SNR is more than 3 dB below both the
        corrupted clip's and the best: outputs next to silence.
    """
    inputs = [result["input"] for result in results]
    restored = [(result["restored"] or {}).get("metrics", {}) for result in results]

    def by_name(kind: str) -> dict[str, dict[str, Any]]:
        names = dict.fromkeys(name for result in results for name in result[kind])
        judged = {name: [result[kind].get(name, {}).get("metrics", {}) for result in results] for name in names}
        return {name: _over_repetitions(inputs, metrics) for name, metrics in judged.items()}

    blind = by_name("blind")
    for stop, metrics in blind.items():
        for name in metrics:
            if not name.endswith("pesq"):  # the oracle may not have looked at the PESQ of that epoch
                metrics[name]["share"] = _share(stop, name, results)
    oracle = _over_repetitions(inputs, [result["best"] for result in results])
    if "pesq" in oracle:
        below = [there for result in results if (there := at_doubtful_pesq(result)) is not None]
        oracle["pesq"]["far_below"] = {"count": len(below), "mean": statistics.fmean(below) if below else math.nan}
    return {
        "repetitions": len(results),
        "diverged": sum(result["error"] is not None for result in results),
        "metrics": oracle,
        "restored": _over_repetitions(inputs, restored),
        "blind": blind,
        "baselines": by_name("baselines"),
    }


def rows(results: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Header and one row for each repetition, for summary.csv."""
    plain = ["repetition", "recording", "epochs_run", "seconds", "error"]
    lines = []
    for result in results:
        line = {name: result[name] for name in plain}
        for name, best in result["best"].items():
            line[f"input_{name}"] = result["input"][name.removeprefix(EMA)]
            line |= {f"best_{name}": best["value"], f"gain_{name}": best["gain"], f"epoch_{name}": best["epoch"]}
        others = {"restored": result["restored"], **result["baselines"]}
        for title, judged in others.items():
            for name, value in (judged or {}).get("metrics", {}).items():
                line |= {f"{title}_{name}": value["value"], f"{title}_gain_{name}": value["gain"]}
        lines.append(line)
    header = list(dict.fromkeys(name for line in lines for name in line))
    return header, [[line.get(name) for name in header] for line in lines]


def table(summary: dict[str, Any]) -> str:
    """The summary as aligned text: corrupted, best, gain and epoch of each metric; then what else was judged.

    Over several repetitions the numbers are means, the gain with its standard deviation.
    """
    several, count = summary["repetitions"] > 1, summary["repetitions"]
    best = summary["metrics"]
    lines = []
    if best:
        lines.append(f"{'':<18}{'corrupted':>10}{'best':>10}{'gain':>{18 if several else 10}}{'epoch':>8}")
    for title, metrics in sections(summary).items():
        lines += [title] if title and metrics else []
        lines += [_line(name, statistics, several, count) for name, statistics in metrics.items()]
    if best:
        lines.append("best: oracle stop, the epoch chosen by looking at the clean clip")
        lines += _doubts(best.get("pesq", {}).get("far_below"), count)
        shares = (_share_line(name, metrics) for name, metrics in summary["blind"].items())
        lines += [share for share in shares if share]
    else:
        lines.append("no clean clip to judge by")
    if several:
        lines.append(f"means over {count} repetitions")
    if summary["diverged"]:
        lines.append(diverged(summary["diverged"], count))
    return "\n".join(lines)


def diverged(count: int, of: int) -> str:
    """That fits diverged, and what is taken of them."""
    return f"{count} of {of} fits diverged: their best before that counts"


def sections(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of a summary by title, in the order in which they are shown: the oracle's first, with no title."""
    best = summary["metrics"]
    return {
        "": {name: s for name, s in best.items() if not name.startswith(EMA)},
        "running mean of the outputs": {name: s for name, s in best.items() if name.startswith(EMA)},
        "restored, without the clean clip": summary["restored"],
        **{f"baseline {name}": metrics for name, metrics in summary["baselines"].items()},
    }


def at_doubtful_pesq(result: Mapping[str, Any]) -> float | None:
    """The SI-SNR of the output that PESQ likes best, where it is far below both the corrupted clip's and the best."""
    if "pesq" not in result["best"]:
        return None  # a fit that diverged may have restored nothing
    there = _number(result["best"]["pesq"].get("si_snr"))
    others = (result["input"]["si_snr"], result["best"]["si_snr"]["value"])
    return there if all(there < _number(other) - FAR_BELOW for other in others) else None


def _doubts(far_below: dict[str, Any] | None, count: int) -> list[str]:
    if not far_below or not far_below["count"]:
        return []
    where = f" in {far_below['count']} of {count} repetitions" if count > 1 else f", at {far_below['mean']:.2f} dB"
    return [doubt(where)]


def doubt(where: str) -> str:
    """That the best PESQ may be of no restoration, and where it is so."""
    return f"PESQ is best where SI-SNR is far below the corrupted clip's{where}: next to silence it can be high"


def _share(stop: str, name: str, results: Sequence[dict[str, Any]]) -> float:
    """A blind stop's mean gain by a metric as a share of the oracle's, over the repetitions in which both have one.

    NaN where the oracle gains next to nothing: a share of that tells nothing.
    """
    gains = [
        (_number(result["blind"].get(stop, {}).get("metrics", {}).get(name, NOTHING)["gain"]), _number(best["gain"]))
        for result in results
        if (best := result["best"].get(name))
    ]
    both = [(kept, possible) for kept, possible in gains if math.isfinite(kept + possible)]
    possible = sum(possible for _, possible in both)
    return sum(kept for kept, _ in both) / possible if possible >= WORTH_SHARING * len(both) > 0 else math.nan


def _share_line(stop: str, metrics: dict[str, dict[str, Any]]) -> str | None:
    """How much of the oracle's gain a blind stop keeps, by the first metric by which the oracle gains anything."""
    names = {"": "output", EMA: "running mean"}
    for metric in LABELS:
        shares = {
            what: _number(metrics.get(prefix + metric, {}).get("share", math.nan)) for prefix, what in names.items()
        }
        told = [f"{100 * share:.0f} % ({what})" for what, share in shares.items() if not math.isnan(share)]
        if told:
            return f"blind stop {stop} keeps of the oracle's gain in {LABELS[metric]}: {', '.join(told)}"
    return None


def _over_repetitions(
    inputs: Sequence[dict[str, float | None]], metrics: Sequence[dict[str, dict[str, Any]]]
) -> dict[str, Any]:
    """Per metric, the statistics of the inputs and of the values, gains and epochs of the repetitions that have it."""
    names = dict.fromkeys(name for one in metrics for name in one)
    summary = {}
    for name in names:
        pairs = [
            (given[name.removeprefix(EMA)], one.get(name, NOTHING))  # a fit that diverged may have restored nothing
            for given, one in zip(inputs, metrics, strict=True)
        ]
        summary[name] = {
            "input": _statistics(given for given, _ in pairs),
            "best": _statistics(value["value"] for _, value in pairs),
            "gain": _statistics(value["gain"] for _, value in pairs),
            "epoch": _statistics(value["epoch"] for _, value in pairs),
        }
    return summary


def _line(name: str, statistics: dict[str, dict[str, Any]], several: bool, count: int) -> str:
    """One metric's line of the table; what has no value is a dash."""
    given, best, gain, epoch = (_number(statistics[what]["mean"]) for what in ("input", "best", "gain", "epoch"))
    gains = _shown(gain, "+.2f")
    if several and not math.isnan(gain):
        gains += f" ± {_shown(_number(statistics['gain']['std']), '.2f')}"
    line = f"  {LABELS[name.removeprefix(EMA)]:<16}{_shown(given, '.2f'):>10}{_shown(best, '.2f'):>10}"
    line += f"{gains:>{18 if several else 10}}{'' if math.isnan(epoch) else format(epoch, '.0f'):>8}"
    nan = statistics["best"]["nan"]
    return line + (f"  ({nan} of {count} NaN, not in the means)" if nan else "")


def _shown(number: float, how: str) -> str:
    return "-" if math.isnan(number) else format(number, how)


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
