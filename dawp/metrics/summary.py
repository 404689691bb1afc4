"""Summaries of several repetitions: means, standard deviations, NaN counts, and a text table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dawp.metrics.base import MEAN, OUTPUT, Measurement, measurements

FAR_BELOW = 3.0  # dB
MIN_GAIN = 0.5  # smallest mean gain of the oracle for which shares are reported, in the unit of the metric
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
        is the sample standard deviation, NaN for fewer than two values. A metric of the oracle stops that
        is checked by another one (PESQ by SI-SNR) also has ``far_below``: count and mean of the other metric where it
        is more than 3 dB below both the corrupted clip's and the best (outputs next to silence).
    """
    inputs = [result["input"] for result in results]
    restored = [(result["restored"] or {}).get("metrics", {}) for result in results]

    def by_name(kind: str) -> dict[str, dict[str, Any]]:
        names = dict.fromkeys(name for result in results for name in result[kind])
        evaluated = {name: [result[kind].get(name, {}).get("metrics", {}) for result in results] for name in names}
        return {name: _over_repetitions(inputs, metrics) for name, metrics in evaluated.items()}

    blind = by_name("blind")
    for stop, metrics in blind.items():
        for name in metrics:
            if not Measurement.parse(name).kind.is_slow:  # which the oracle may not have at that epoch
                metrics[name]["share"] = _share(stop, name, results)
    oracle = _over_repetitions(inputs, [result["best"] for result in results])
    for measurement in (one for one in measurements() if one.check and one.name in oracle):
        below = [value for result in results if (value := doubtful_value(result, measurement)) is not None]
        mean = statistics.fmean(below) if below else math.nan
        oracle[measurement.name]["far_below"] = {"count": len(below), "mean": mean}
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
            line[f"input_{name}"] = result["input"][Measurement.parse(name).of_output.name]
            line |= {f"best_{name}": best["value"], f"gain_{name}": best["gain"], f"epoch_{name}": best["epoch"]}
        others = {"restored": result["restored"], **result["baselines"]}
        for title, evaluated in others.items():
            for name, value in (evaluated or {}).get("metrics", {}).items():
                line |= {f"{title}_{name}": value["value"], f"{title}_gain_{name}": value["gain"]}
        lines.append(line)
    header = list(dict.fromkeys(name for line in lines for name in line))
    return header, [[line.get(name) for name in header] for line in lines]


def table(summary: dict[str, Any]) -> str:
    """Return the summary as aligned text: corrupted, best, gain and epoch of each metric, then the other estimates.

    For several repetitions the numbers are means, and the gain has its standard deviation.
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
        lines.append("best: oracle stop, the epoch is selected with the clean clip")
        for name, of_metric in best.items():
            lines += _doubts(Measurement.parse(name), of_metric.get("far_below"), count)
        shares = (_share_line(name, metrics) for name, metrics in summary["blind"].items())
        lines += [share for share in shares if share]
    else:
        lines.append("no clean clip, so no metrics")
    if several:
        lines.append(f"means over {count} repetitions")
    if summary["diverged"]:
        lines.append(diverged(summary["diverged"], count))
    return "\n".join(lines)


def diverged(count: int, of: int) -> str:
    """Return the line that reports how many fits diverged."""
    return f"{count} of {of} fits diverged: their best values before the divergence are used"


def sections(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the parts of a summary by title, in the order of the table: the oracle's first, with an empty title."""
    best = summary["metrics"]
    return {
        "": {name: s for name, s in best.items() if Measurement.parse(name).estimate == OUTPUT},
        "running mean of the outputs": {n: s for n, s in best.items() if Measurement.parse(n).estimate == MEAN},
        "restored, without the clean clip": summary["restored"],
        **{f"baseline {name}": metrics for name, metrics in summary["baselines"].items()},
    }


def doubtful_value(result: Mapping[str, Any], measurement: Measurement) -> float | None:
    """Return the value of the metric that checks another one at the best of that one, if it is doubtful.

    It is doubtful if it is far below both the corrupted clip's value and the best.
    """
    check, best = measurement.check, result["best"].get(measurement.name)
    if not check or not best or check.name not in result["best"]:
        return None  # a fit that diverged may have restored nothing
    value = _number(best.get(check.metric))
    others = (result["input"][check.name], result["best"][check.name]["value"])
    return value if all(value < _number(other) - FAR_BELOW for other in others) else None


def _doubts(measurement: Measurement, far_below: dict[str, Any] | None, count: int) -> list[str]:
    if not far_below or not far_below["count"]:
        return []
    where = f" in {far_below['count']} of {count} repetitions" if count > 1 else f", at {far_below['mean']:.2f} dB"
    return [doubt(measurement, where)]


def doubt(measurement: Measurement, where: str) -> str:
    """Return a warning that the best value of a metric may not be that of a restoration."""
    check = measurement.check.title if measurement.check else ""
    return (
        f"{measurement.title} is best at an epoch where {check} is far below the corrupted clip's{where}: "
        "outputs near silence can have high values"
    )


def _share(stop: str, name: str, results: Sequence[dict[str, Any]]) -> float:
    """Return a blind stop's mean gain as a share of the oracle's, over the repetitions in which both have one.

    NaN if the oracle's gain is close to zero: a share of it has no meaning.
    """
    gains = [
        (_number(result["blind"].get(stop, {}).get("metrics", {}).get(name, NOTHING)["gain"]), _number(best["gain"]))
        for result in results
        if (best := result["best"].get(name))
    ]
    both = [(kept, possible) for kept, possible in gains if math.isfinite(kept + possible)]
    possible = sum(possible for _, possible in both)
    return sum(kept for kept, _ in both) / possible if possible >= MIN_GAIN * len(both) > 0 else math.nan


def _share_line(stop: str, metrics: dict[str, dict[str, Any]]) -> str | None:
    """Return the share of the oracle gain that a blind stop retains, for the first metric with an oracle gain."""
    names = {OUTPUT: "output", MEAN: "running mean"}
    for measurement in measurements():
        shares = {
            what: _number(metrics.get(replace(measurement, estimate=estimate).name, {}).get("share", math.nan))
            for estimate, what in names.items()
        }
        parts = [f"{100 * share:.0f} % ({what})" for what, share in shares.items() if not math.isnan(share)]
        if parts:
            return f"blind stop {stop}: share of the oracle gain in {measurement.label}: {', '.join(parts)}"
    return None


def _over_repetitions(
    inputs: Sequence[dict[str, float | None]], metrics: Sequence[dict[str, dict[str, Any]]]
) -> dict[str, Any]:
    """Return for each metric the statistics of inputs, values, gains and epochs over the repetitions that have it."""
    names = dict.fromkeys(name for one in metrics for name in one)
    summary = {}
    for name in names:
        pairs = [
            (
                given[Measurement.parse(name).of_output.name],
                one.get(name, NOTHING),
            )  # a fit that diverged may have restored nothing
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
    """Return the line of a metric in the table; missing values are dashes."""
    given, best, gain, epoch = (_number(statistics[what]["mean"]) for what in ("input", "best", "gain", "epoch"))
    gains = _shown(gain, "+.2f")
    if several and not math.isnan(gain):
        gains += f" ± {_shown(_number(statistics['gain']['std']), '.2f')}"
    line = f"  {Measurement.parse(name).label:<16}{_shown(given, '.2f'):>10}{_shown(best, '.2f'):>10}"
    line += f"{gains:>{18 if several else 10}}{'' if math.isnan(epoch) else format(epoch, '.0f'):>8}"
    nan = statistics["best"]["nan"]
    return line + (f"  ({nan} of {count} NaN, not in the means)" if nan else "")


def _shown(number: float, how: str) -> str:
    return "-" if math.isnan(number) else format(number, how)


def _statistics(values: Iterable[float | None]) -> dict[str, float]:
    """Return mean, standard deviation and counts; None and NaN both stand for a value that could not be computed."""
    every = [_number(value) for value in values]
    finite = [value for value in every if not math.isnan(value)]
    return {
        "mean": statistics.fmean(finite) if finite else math.nan,
        "std": statistics.stdev(finite) if len(finite) > 1 else math.nan,
        "count": len(finite),
        "nan": len(every) - len(finite),
    }


def _number(value: float | None) -> float:
    """Convert None to NaN, which JSON cannot represent."""
    return math.nan if value is None else float(value)
