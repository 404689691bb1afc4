"""Definition of a study: the cells of a table or figure, its measures and the claims to check."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dawp.errors import BadInput, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("speech", "singing", "instruments")
"""The kinds of sound in the paper, one data set each (section 3)."""


@dataclass(frozen=True)
class Measure:
    """A value read from the result of a repetition.

    Attributes:
        title: column title, as in the paper's table.
        metric: name of the metric in result.json.
        what: ``best``, the value at the oracle stop, or ``gain``, its difference from the corrupted clip's.
    """

    title: str
    metric: str
    what: str = "best"

    def value(self, facts: Mapping[str, Any]) -> float:
        """Return the value in the content of a result.json; NaN if it is missing."""
        best = facts["best"].get(self.metric) or {}
        value = best.get("value" if self.what == "best" else "gain")
        return math.nan if value is None else float(value)


@dataclass(frozen=True, eq=False)
class Cell:
    """A row of a table, or a point of a figure.

    Attributes:
        name: name of the row.
        task: ``denoise``, ``dereverb`` or ``inpaint``.
        settings: settings fixed by the cell; None disables a setting that would override another.
        kinds: kinds of sound; the clips are split between them.
        published: the paper's values by title of the measure.
    """

    name: str
    task: str
    settings: Mapping[str, Any]
    kinds: tuple[str, ...] = KINDS
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.name if self.kinds == KINDS else f"{self.name}, {' and '.join(self.kinds)}"


class Values(NamedTuple):
    """Values of a measure in a cell by clip; NaN if a value could not be computed."""

    by_clip: dict[str, float]

    @property
    def numbers(self) -> list[float]:
        return [value for value in self.by_clip.values() if not math.isnan(value)]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.numbers) if self.numbers else math.nan

    @property
    def std(self) -> float:
        """The sample standard deviation; NaN for fewer than two values."""
        return statistics.stdev(self.numbers) if len(self.numbers) > 1 else math.nan


Results = Mapping[Cell, Mapping[str, Values]]
"""Values by cell and title of the measure."""


class Fit(NamedTuple):
    """A finished repetition with a best value: kind of sound, folder and content of its result.json."""

    kind: str
    folder: Path
    facts: Mapping[str, Any]

    @property
    def clip(self) -> str:
        return f"{self.kind} {self.folder.name}"

    @property
    def is_diverged(self) -> bool:
        return self.facts["error"] is not None

    def files(self, *names: str) -> list[Path]:
        """Return the paths of files of the repetition.

        Raises:
            BadInput: a file is missing.
        """
        paths = [self.folder / name for name in names]
        for path in paths:
            if not path.exists():
                advice = f"delete {printable(self.folder)} and run the same command to repeat the fit"
                raise BadInput(f"{printable(path)}: file is missing; {advice}", code="damaged_results")
        return paths


Found = Mapping[Cell, Sequence[Fit]]
"""Finished fits by cell."""


class Size(NamedTuple):
    """Size of a study: clips per cell and epochs per fit."""

    clips: int
    epochs: int

    def __str__(self) -> str:
        return f"{counted(self.clips, 'clip')} a cell, {counted(self.epochs, 'epoch')}"


class About(NamedTuple):
    """Header of a study's report.

    Attributes:
        headline: comparison with the paper's run, and size.
        lines: settings, missing fits, data, machine and command.
        size: requested size.
        environment: environment of the command, for the JSON file.
    """

    headline: str
    lines: Sequence[str]
    size: Size
    environment: Mapping[str, Any]


def counted(count: int, thing: str) -> str:
    """Return a count with its noun: ``1 clip`` or ``2 clips``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


class Verdict(NamedTuple):
    """Verdict on a claim and the values it is based on."""

    word: str
    why: str


HOLDS, FAILS, WITHIN = "holds", "does not hold", "within one standard error"
UNDECIDED, NOT_RUN = "undecided", "not run"


@dataclass(frozen=True)
class Claim:
    """The claim that some cells are better than others by a measure.

    Attributes:
        text: the claim.
        pairs: pairs of cell names, the better one first.
        measure: title of the measure.
    """

    text: str
    pairs: Sequence[tuple[str, str]]
    measure: str

    def verdict(self, results: Results) -> Verdict:
        """Return the worst verdict over all pairs.

        A pair is judged by the differences between the same clips of both cells. It holds if the mean difference
        exceeds its standard error, and does not hold if the mean is below minus the standard error. With a single
        clip, which has no standard error, it is undecided.
        """
        words, reasons = [], []
        for better, worse in self.pairs:
            differences = _differences(results, better, worse, self.measure)
            word, why = _judge(differences)
            words.append(word)
            reasons.append(f"{better} over {worse}: {why}")
        order = (NOT_RUN, FAILS, UNDECIDED, WITHIN, HOLDS)
        return Verdict(min(words, key=order.index), "; ".join(reasons))


def _differences(results: Results, better: str, worse: str, measure: str) -> list[float]:
    """Return the differences between two rows over their common clips."""
    sides: list[dict[tuple[tuple[str, ...], str], float]] = []
    for name in (better, worse):
        cells = [cell for cell in results if cell.name == name]
        sides.append({(cell.kinds, clip): v for cell in cells for clip, v in results[cell][measure].by_clip.items()})
    differences = (sides[0][clip] - sides[1][clip] for clip in sides[0].keys() & sides[1].keys())
    return [difference for difference in differences if not math.isnan(difference)]


def _judge(differences: list[float]) -> tuple[str, str]:
    if not differences:
        return NOT_RUN, "no clips in common"
    mean, count = statistics.fmean(differences), len(differences)
    if count == 1:
        return UNDECIDED, f"{mean:+.2f} on one clip, which has no standard error"
    error = statistics.stdev(differences) / math.sqrt(count)
    word = HOLDS if mean > error else FAILS if mean < -error else WITHIN
    return word, f"{mean:+.2f} ± {error:.2f} (standard error, {count} clips)"


@dataclass(frozen=True)
class Study:
    """A table or a figure.

    Attributes:
        name: name on the command line, e.g. ``table3``.
        title: title of the report.
        cells: cells in the order of the rows.
        measures: measures in the order of the columns.
        claims: claims to check.
        clips: clips per cell in the paper.
        epochs: epochs per fit in the paper.
        draw: plots the finished fits; None for a bar chart.
        notes: remarks at the end of the report.
        in_paper: whether the study is in the paper.
    """

    name: str
    title: str
    cells: Sequence[Cell]
    measures: Sequence[Measure]
    claims: Sequence[Claim] = ()
    clips: int = 20
    epochs: int = 3000
    draw: Callable[[Study, Found], Figure] | None = None
    notes: Sequence[str] = ()
    in_paper: bool = True

    @property
    def size(self) -> Size:
        """Full size: that of the paper, if the paper states it."""
        return Size(self.clips, self.epochs)

    @property
    def own_settings(self) -> set[str]:
        """Names of the settings that every cell fixes, so that they cannot be set by flags."""
        return set.intersection(*(set(cell.settings) for cell in self.cells))

    def results(self, found: Found) -> Results:
        """Return the values of each cell and measure."""
        return {
            cell: {
                measure.title: Values({fit.clip: measure.value(fit.facts) for fit in found[cell]})
                for measure in self.measures
            }
            for cell in self.cells
        }

    def publishes(self, measure: Measure) -> bool:
        """Return whether the paper states values for a measure."""
        return any(measure.title in cell.published for cell in self.cells)
