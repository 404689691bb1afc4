"""The facts, tables and figures of a report that describe the run as a whole."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from dawp.config import Config
from dawp.errors import BadInput
from dawp.groups import groups_of
from dawp.metrics.base import Measurement, measurements
from dawp.metrics.summary import sections
from dawp.parallel.progress import format_duration
from dawp.report import pictures
from dawp.report.assets import Assets, Picture
from dawp.runs.folder import NOT_IDENTITY
from dawp.settings import flag_of
from dawp.tasks.base import PRESETS, get_task


def facts_of_run(about: dict[str, Any], done: int, planned: int, seconds: float) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {about['versions'].get(name) or '?'}" for name in ("python", "torch"))
    facts = [
        ("task", about["task"]),
        ("preset", about["preset"]),
        ("clips", f"{done} of {planned}" if done < planned else f"{done}"),
        ("device", about["device"]),
        ("time of the fits", format_duration(seconds) if done else "-"),
        ("started", about.get("begun") or "-"),
        ("seed", about["seed"]),
        ("versions", versions),
    ]
    return [(name, str(value)) for name, value in facts]


def changed_flags(about: dict[str, Any]) -> list[str]:
    """Return the flags of the settings that differ from the preset."""
    if about["preset"] not in PRESETS:
        return []
    usual = get_task(about["task"]).preset(about["preset"])
    plain = {s.name: usual.get(s.name, s.default) for g in groups_of(about["task"]).values() for s in fields(g)}
    saved = {name: value for group in about["settings"].values() for name, value in group.items() if name in plain}
    try:
        effective = Config.of(about["task"], about["preset"], **saved).effective()
    except BadInput:  # settings of another version, or of files that do not exist any more
        effective = saved
    shown_here = (name for name in saved if name in effective and name not in NOT_IDENTITY)
    return [flag_of(name, saved[name]) for name in shown_here if saved[name] != plain[name]]


def sections_of(summary: dict[str, Any], published: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the sections of the table of means: a title, and the statistics and published value of each metric."""
    values = (published or {}).get("values", {})
    return [
        {
            "title": title or "best (oracle stop)",
            "rows": [
                {"label": Measurement.parse(name).label, **statistics, "published": {} if title else values.get(name)}
                for name, statistics in metrics.items()
            ],
        }
        for title, metrics in sections(summary).items()
        if metrics
    ]


def columns_of(table: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the columns of the table of clips: key, heading and number format."""
    present = {name for row in table for name in row}
    columns = []
    for measurement in measurements():
        metric, plain = measurement.name, measurement.title
        columns += [
            (f"input_{metric}", f"{plain} corrupted", ".2f"),
            (f"best_{metric}", f"{plain} best", ".2f"),
            (f"gain_{metric}", f"{plain} gain", "+.2f"),
            (f"epoch_{metric}", f"{plain} epoch", ".0f"),
            (f"restored_gain_{metric}", f"{plain} gain, restored", "+.2f"),
        ]
    columns.append(("seconds", "seconds", ".0f"))
    return [column for column in columns if column[0] in present]


def figures_across(results: list[dict[str, Any]], assets: Assets) -> list[Picture]:
    """Return the figures that need several repetitions: gain against input, and the distribution of best epochs."""
    if len(results) < 2:
        return []

    def pairs(metric: str, kind: str) -> list[tuple[float, float]]:
        evaluated = [(r["best"] if kind == "best" else (r["restored"] or {}).get("metrics", {})) for r in results]
        both = [
            (r["input"].get(metric), j.get(metric, {}).get("gain")) for r, j in zip(results, evaluated, strict=True)
        ]
        return [(given, gain) for given, gain in both if given is not None and gain is not None]

    drawn = []
    of_clip = [one for one in measurements(gaps=False) if pairs(one.name, "best")]
    if of_clip:
        measurement, metric = of_clip[0], of_clip[0].name
        points = {"best (oracle stop)": pairs(metric, "best"), "restored (blind stop)": pairs(metric, "restored")}
        alt = f"Gain in {measurement.label} of each clip against the value of the corrupted clip"
        drawn.append(assets.figure(pictures.gains({t: p for t, p in points.items() if p}, measurement), alt))
        oracle = [r["best"][metric]["epoch"] for r in results if r["best"][metric]["epoch"] is not None]
        blind = [r["restored"]["epoch"] for r in results if r["restored"]]
        epochs = {"best (oracle stop)": oracle, "restored (blind stop)": blind}
        alt = f"Histogram of the best epochs by {measurement.label} and of the blind stops over all clips"
        drawn.append(assets.figure(pictures.best_epochs({t: e for t, e in epochs.items() if e}), alt))
    return drawn


def format_number(value: float | None, spec: str = ".2f") -> str:
    """Format a number for the page; a dash if it is missing or not finite."""
    return "–" if value is None or not math.isfinite(value) else format(value, spec).replace("-", "−")
