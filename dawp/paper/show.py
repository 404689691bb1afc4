"""Write the results of a study as Markdown, CSV, JSON and a picture, beside the paper's values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dawp.io.files import atomic_write, write_csv, write_json
from dawp.metrics.base import Measurement
from dawp.metrics.summary import diverged, doubt, doubtful_value
from dawp.paper.study import NOT_RUN, About, Found, Results, Study, Values, counted
from dawp.report import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_LIKENESS = -10.0
"""SI-SNR in dB below which less than a tenth of an output's energy belongs to the clean clip."""


def header(study: Study) -> list[str]:
    """Return the column names of a study's table."""
    columns = ["", "clips"]
    for measure in study.measures:
        columns += [measure.title, "± std"]
        if study.publishes(measure):
            columns.append("paper")
    return columns


def rows(study: Study, results: Results) -> list[list[Any]]:
    """Return a row for each cell: title, number of clips, and mean, deviation and published value of each measure.

    Missing values are NaN. A measure without published values has no column for them.
    """
    lines = []
    for cell in study.cells:
        values = results[cell]
        line: list[Any] = [cell.title, len(next(iter(values.values())).by_clip)]
        for measure in study.measures:
            line += [values[measure.title].mean, values[measure.title].std]
            if study.publishes(measure):
                line.append(cell.published.get(measure.title, math.nan))
        lines.append(line)
    return lines


def markdown(study: Study, results: Results) -> str:
    """Return the table in Markdown with aligned columns."""
    head, *lines = [header(study), *([_format(value) for value in line] for line in rows(study, results))]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]

    def joined(line: Sequence[str]) -> str:
        cells = [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(joined(line) for line in (head, rule, *lines))


def conclusions(study: Study, results: Results) -> list[tuple[str, str, str]]:
    """Return each claim with its verdict and the reason."""
    return [(claim.text, *claim.verdict(results)) for claim in study.claims]


def doubts(study: Study, found: Found, results: Results) -> list[str]:
    """Return warnings about the values of a study."""
    return [
        *_missing_clips(results),
        *_nan(results),
        *_diverged(found),
        *_unlike(study, found),
        *_next_to_silence(study, found),
    ]


def text(study: Study, found: Found, about: About) -> str:
    """Return the report of a study in Markdown."""
    results = study.results(found)
    lines = (about.headline, *about.lines)
    parts = [f"# {study.title}", "\n".join(f"- {line}" for line in lines), markdown(study, results)]
    warnings = doubts(study, found, results)
    if warnings:
        parts.append("\n".join(f"- {line}" for line in warnings))
    claims = conclusions(study, results)
    if claims:
        parts.append("\n".join(f"- **{word}**: {claim} ({why})" for claim, word, why in claims))
    if study.notes:
        parts.append("\n".join(study.notes))
    return "\n\n".join(parts)


def _missing_clips(results: Results) -> Iterator[str]:
    """Yield a line for each row that lacks clips of other rows with the same kinds of sound."""
    known: dict[tuple[str, ...], dict[str, None]] = {}  # by kinds of sound: the clips of all rows, in order
    for cell, by_measure in results.items():
        known.setdefault(cell.kinds, {}).update(dict.fromkeys(_clips(by_measure)))
    for cell, by_measure in results.items():
        clips = _clips(by_measure)
        missing = [clip for clip in known[cell.kinds] if clip not in clips]
        if clips and missing:
            more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
            names = f"{', '.join(missing[:2])}{more}"
            yield f"{cell.title}: lacks {names}, present in other rows: the means are not over the same clips"


def _nan(results: Results) -> Iterator[str]:
    for cell, by_measure in results.items():
        for title, values in by_measure.items():
            numbers, clips = len(values.numbers), len(values.by_clip)
            if numbers < clips:
                yield f"{cell.title}, {title}: NaN for {clips - numbers} of {clips} clips"


def _diverged(found: Found) -> Iterator[str]:
    for cell, fits in found.items():
        count = sum(fit.is_diverged for fit in fits)
        if count:
            yield f"{cell.title}: {diverged(count, len(fits))}"


def _unlike(study: Study, found: Found) -> Iterator[str]:
    """Yield warnings about gains in SI-SNR of outputs that hardly resemble the clean clip."""
    for measure in (m for m in study.measures if (m.metric, m.what) == ("si_snr", "gain")):
        fits = [(cell, fit) for cell, cell_fits in found.items() for fit in cell_fits]
        unlike = [(cell, fit) for cell, fit in fits if replace(measure, what="best").value(fit.facts) < MIN_LIKENESS]
        if unlike:
            cell, largest = max(unlike, key=lambda entry: measure.value(entry[1].facts))
            yield (
                f"in {len(unlike)} of {counted(len(fits), 'fit')} the {measure.title} belongs to an output below "
                f"{MIN_LIKENESS:g} dB SI-SNR, which hardly resembles the clean clip (largest: "
                f"{measure.value(largest.facts):+.2f} dB, {cell.title}, {largest.folder.name})"
            )


def _next_to_silence(study: Study, found: Found) -> Iterator[str]:
    """Yield a line for each metric with doubtful best values, such as PESQ of outputs near silence."""
    fits = [fit for cell_fits in found.values() for fit in cell_fits]
    for measurement in dict.fromkeys(Measurement.parse(measure.metric) for measure in study.measures):
        count = sum(doubtful_value(fit.facts, measurement) is not None for fit in fits)
        if count:
            yield doubt(measurement, f" in {count} of {counted(len(fits), 'fit')}")


def write(study: Study, found: Found, about: About, folder: Path) -> list[Path]:
    """Write ``<study>.md``, ``.csv``, ``.json`` and ``.png``, each with the size of the run.

    At least one fit must be finished.

    Raises:
        BadInput: a file that the picture shows is missing; nothing is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = study.results(found)
    paths = output_paths(study, folder)
    figure = study.draw(study, found) if study.draw else bars(study, results)
    figure.suptitle(about.headline, fontsize="x-small", wrap=True)
    pictures.save(figure, paths[3])
    with atomic_write(paths[0]) as temporary:
        temporary.write_text(text(study, found, about) + "\n", encoding="utf-8")
    write_csv(paths[1], *_as_csv(study, results, about))
    cells = [
        {
            "row": cell.name,
            "kinds": list(cell.kinds),
            "settings": dict(cell.settings),
            "paper": dict(cell.published),
            "clips": {title: values.by_clip for title, values in results[cell].items()},
            "best": {fit.clip: fit.facts["best"] for fit in found[cell]},
            "errors": {fit.clip: fit.facts["error"] for fit in found[cell] if fit.is_diverged},
            "folders": [str(fit.folder) for fit in found[cell]],
        }
        for cell in study.cells
    ]
    content = {
        "title": study.title,
        "about": [about.headline, *about.lines],
        "size": about.size._asdict(),
        "full_size": study.size._asdict(),
        "cells": cells,
        "doubts": doubts(study, found, results),
        "conclusions": [{"claim": c, "verdict": word, "why": why} for c, word, why in conclusions(study, results)],
        "notes": list(study.notes),
    }
    write_json(paths[2], {**about.environment, **content})
    return paths


def output_paths(study: Study, folder: Path) -> list[Path]:
    """Return the output paths of a study: Markdown, CSV, JSON and picture."""
    return [folder / f"{study.name}{suffix}" for suffix in (".md", ".csv", ".json", ".png")]


def _clips(by_measure: Mapping[str, Values]) -> list[str]:
    return list(next(iter(by_measure.values())).by_clip)


def bars(study: Study, results: Results) -> Figure:
    """Plot means and deviations beside the paper's values, one panel per measure.

    If rows have different numbers of clips, the row labels state them.
    """
    import numpy as np

    counts = [len(_clips(results[cell])) for cell in study.cells]
    titles = [cell.title for cell in study.cells]
    if len(set(counts)) > 1:
        labels = (counted(count, "clip") if count else NOT_RUN for count in counts)
        titles = [f"{title}: {label}" for title, label in zip(titles, labels, strict=True)]
    height = 0.6 + 0.24 * len(study.cells)
    figure, axes = pictures.new_figure(len(study.measures), height=height, sharex=False)
    positions = np.arange(len(study.cells))
    for axis, measure in zip(axes, study.measures, strict=True):
        values = [results[cell][measure.title] for cell in study.cells]
        spread = [0 if math.isnan(value.std) else value.std for value in values]
        axis.barh(positions, [v.mean for v in values], xerr=spread, color=pictures.OUTPUT, height=0.5, label="here")
        if study.publishes(measure):
            published = [cell.published.get(measure.title, math.nan) for cell in study.cells]
            axis.plot(published, positions, "D", color=pictures.CORRUPTED, label="paper", markersize=5)
            axis.legend(fontsize="x-small", loc="lower right", bbox_to_anchor=(1, 1), ncols=2)  # above the bars
        axis.set_yticks(positions, titles, fontsize="small")
        axis.set_ylim(len(positions) - 0.5, -0.5)
        axis.set_xlabel(measure.title)
    return figure


def _format(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.2f}"
    return NOT_RUN if value == 0 else str(value)


def _as_csv(study: Study, results: Results, about: About) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows of the CSV file: those of the table, with epochs and full sizes."""
    names, measure = [], ""
    for column in header(study)[2:]:
        if column not in ("± std", "paper"):
            measure = column
        names.append({"± std": f"{measure} std", "paper": f"{measure} paper"}.get(column, f"{column} mean"))
    lines = []
    for name, clips, *numbers in rows(study, results):
        values = ["" if isinstance(number, float) and math.isnan(number) else number for number in numbers]
        lines.append([name, clips, study.clips, about.size.epochs, study.epochs, *values])
    return ["cell", "clips", "clips in full", "epochs", "epochs in full", *names], lines
