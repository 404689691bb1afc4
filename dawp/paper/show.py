"""A study's results as text, Markdown, CSV, JSON and a picture, with the paper's numbers beside ours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dawp.files import whole, write_csv, write_json
from dawp.paper.study import NOT_RUN, Found, Results, Study, Values
from dawp.report import pictures
from dawp.summary import at_doubtful_pesq, diverged, doubt

NO_LIKENESS = -10.0
"""SI-SNR in dB, where less than a tenth of what an output holds is the clean clip."""


def header(study: Study) -> list[str]:
    """The columns of a study's table."""
    columns = ["", "clips"]
    for measure in study.measures:
        columns += [measure.title, "± std"]
        if study.publishes(measure):
            columns.append("paper")
    return columns


def rows(study: Study, results: Results) -> list[list[Any]]:
    """A row for each cell: its title, the number of clips, and for each measure mean, deviation and the paper's number.

    Numbers that are not there are NaN; the paper's are absent from a study that has none.
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
    """The table, aligned, so that it can be read as it is."""
    head, *lines = [header(study), *([_shown(value) for value in line] for line in rows(study, results))]
    widths = [max(len(line[place]) for line in (head, *lines)) for place in range(len(head))]

    def joined(line: Sequence[str]) -> str:
        cells = [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(joined(line) for line in (head, rule, *lines))


def conclusions(study: Study, results: Results) -> list[tuple[str, str, str]]:
    """Each claim with its verdict and what that rests on."""
    return [(claim.text, *claim.verdict(results)) for claim in study.claims]


def text(study: Study, found: Found, circumstances: Sequence[str]) -> str:
    """All that is told of a study."""
    results = study.results(found)
    parts = [f"# {study.title}", "\n".join(f"- {line}" for line in circumstances), markdown(study, results)]
    doubts = [*_without(results), *_nan(results), *_diverged(found), *_unlike(study, found)]
    doubts += _next_to_silence(study, found)
    if doubts:
        parts.append("\n".join(f"- {line}" for line in doubts))
    claims = conclusions(study, results)
    if claims:
        parts.append("\n".join(f"- **{word}**: {claim} ({why})" for claim, word, why in claims))
    if study.notes:
        parts.append("\n".join(study.notes))
    return "\n\n".join(parts)


def counted(count: int, thing: str) -> str:
    """A number of things, as ``1 clip`` or ``2 clips``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _without(results: Results) -> Iterator[str]:
    """The rows that have some of their clips, and not all that others of the same kinds of sound have."""
    known: dict[tuple[str, ...], dict[str, None]] = {}  # by kinds, the clips of any row in order
    for cell, by_measure in results.items():
        known.setdefault(cell.kinds, {}).update(dict.fromkeys(_clips(by_measure)))
    for cell, by_measure in results.items():
        clips = _clips(by_measure)
        missing = [clip for clip in known[cell.kinds] if clip not in clips]
        if clips and missing:
            more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
            names = f"{', '.join(missing[:2])}{more}"
            yield f"{cell.title}: without {names}, which other rows have: its means are not of the same clips as theirs"


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
    """Gains in SI-SNR where clean and corrupted clip have so little in common that nearly anything is a gain."""
    for measure in (m for m in study.measures if (m.metric, m.what) == ("si_snr", "gain")):
        fits = [(cell, fit) for cell, of_cell in found.items() for fit in of_cell]
        unlike = [(cell, fit) for cell, fit in fits if replace(measure, what="best").of(fit.facts) < NO_LIKENESS]
        if unlike:
            cell, most = max(unlike, key=lambda one: measure.of(one[1].facts))
            yield (
                f"{measure.title} is of outputs below {NO_LIKENESS:g} dB, which are no likeness of the clean clip, in "
                f"{len(unlike)} of {counted(len(fits), 'fit')} (at most {measure.of(most.facts):+.2f} dB: "
                f"{cell.title}, {most.folder.name})"
            )


def _next_to_silence(study: Study, found: Found) -> Iterator[str]:
    if any(measure.metric == "pesq" for measure in study.measures):
        fits = [fit for of_cell in found.values() for fit in of_cell]
        count = sum(at_doubtful_pesq(fit.facts) is not None for fit in fits)
        if count:
            yield doubt(f" in {count} of {counted(len(fits), 'fit')}")


def write(study: Study, found: Found, circumstances: Sequence[str], about: Mapping[str, Any], to: Path) -> list[Path]:
    """Write everything into a folder as ``<study>.md``, ``.csv``, ``.json`` and ``.png``; something must be finished.

    Raises:
        BadInput: the sound that a picture would show is gone; nothing is written then.
    """
    to.mkdir(parents=True, exist_ok=True)
    results = study.results(found)
    paths = [to / f"{study.name}{suffix}" for suffix in (".md", ".csv", ".json", ".png")]
    if study.draw is None:
        bars(study, results, paths[3])
    else:
        study.draw(study, found, paths[3])
    with whole(paths[0]) as temporary:
        temporary.write_text(text(study, found, circumstances) + "\n", encoding="utf-8")
    blank = [["" if isinstance(v, float) and math.isnan(v) else v for v in line] for line in rows(study, results)]
    write_csv(paths[1], _unique(header(study)), blank)
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
    claims = [{"claim": c, "verdict": word, "why": why} for c, word, why in conclusions(study, results)]
    write_json(paths[2], {**about, "title": study.title, "cells": cells, "conclusions": claims})
    return paths


def _clips(by_measure: Mapping[str, Values]) -> list[str]:
    return list(next(iter(by_measure.values())).by_clip)


def bars(study: Study, results: Results, to: Path) -> None:
    """Our means with their deviations beside the paper's numbers, one panel a measure.

    Where rows have different numbers of clips, each tells its own.
    """
    import numpy as np

    counts = [len(_clips(results[cell])) for cell in study.cells]
    titles = [cell.title for cell in study.cells]
    if len(set(counts)) > 1:
        told = (counted(count, "clip") if count else NOT_RUN for count in counts)
        titles = [f"{title}: {clips}" for title, clips in zip(titles, told, strict=True)]
    height = 0.6 + 0.24 * len(study.cells)
    figure, axes = pictures.new_figure(len(study.measures), height=height, sharex=False)
    places = np.arange(len(study.cells))
    for axis, measure in zip(axes, study.measures, strict=True):
        values = [results[cell][measure.title] for cell in study.cells]
        spread = [0 if math.isnan(value.std) else value.std for value in values]
        axis.barh(places, [v.mean for v in values], xerr=spread, color=pictures.OUTPUT, height=0.5, label="here")
        if study.publishes(measure):
            theirs = [cell.published.get(measure.title, math.nan) for cell in study.cells]
            axis.plot(theirs, places, "D", color=pictures.CORRUPTED, label="paper", markersize=5)
            axis.legend(fontsize="x-small", loc="lower right", bbox_to_anchor=(1, 1), ncols=2)  # above the bars
        axis.set_yticks(places, titles, fontsize="small")
        axis.set_ylim(len(places) - 0.5, -0.5)
        axis.set_xlabel(measure.title)
    pictures.save(figure, to)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.2f}"
    return NOT_RUN if value == 0 else str(value)


def _unique(columns: list[str]) -> list[str]:
    """Names for the columns of a CSV file."""
    names, measure = ["cell", "clips"], ""
    for column in columns[2:]:
        if column not in ("± std", "paper"):
            measure = column
        names.append({"± std": f"{measure} std", "paper": f"{measure} paper"}.get(column, f"{column} mean"))
    return names
