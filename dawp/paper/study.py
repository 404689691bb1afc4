"""What a table or figure, of the paper or about it, is: cells, each some runs, and claims about them."""

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
"""The kinds of sound in the paper, each from a data set of its own (section 3)."""


@dataclass(frozen=True)
class Measure:
    """A number of a repetition.

    Attributes:
        title: as the paper's table has it.
        metric: its name in result.json.
        what: ``best``, the value at the oracle stop, or ``gain``, what that is above the corrupted clip's.
    """

    title: str
    metric: str
    what: str = "best"

    def of(self, facts: Mapping[str, Any]) -> float:
        """Its value in the content of a result.json; NaN if there is none."""
        best = facts["best"].get(self.metric) or {}
        value = best.get("value" if self.what == "best" else "gain")
        return math.nan if value is None else float(value)


@dataclass(frozen=True, eq=False)
class Cell:
    """A row of a table, or a point of a figure.

    Attributes:
        name: of the row.
        task: ``denoise``, ``dereverb`` or ``inpaint``.
        settings: that are its own, whatever is asked for; among them those that would override others, as None.
        kinds: of sound; the clips are shared out among them.
        published: the paper's numbers by title of the measure.
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
    """What was measured in a cell: a number for each clip, by the clip, NaN where it could not be computed."""

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
"""By cell, and by title of the measure."""


class Fit(NamedTuple):
    """A repetition that is finished and restored something: kind of sound, folder, and content of its result.json."""

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
        """Its files of these names.

        Raises:
            BadInput: one of them is not there.
        """
        paths = [self.folder / name for name in names]
        for path in paths:
            if not path.exists():
                again = f"without {printable(self.folder)} the same command does this fit again"
                raise BadInput(f"{printable(path)}: is not there, so there is nothing to show; {again}")
        return paths


Found = Mapping[Cell, Sequence[Fit]]
"""By cell what is finished of it."""


class Size(NamedTuple):
    """How large a study is: the clips of each cell, and the epochs of each fit."""

    clips: int
    epochs: int

    def __str__(self) -> str:
        return f"{counted(self.clips, 'clip')} a cell, {counted(self.epochs, 'epoch')}"


class About(NamedTuple):
    """What a reader has to know of a study that was run.

    Attributes:
        headline: whether it is as in the paper, and its size.
        lines: the rest: settings, what is missing, sounds, machine, command.
        size: that was asked for.
        environment: of the command, for the JSON file.
    """

    headline: str
    lines: Sequence[str]
    size: Size
    environment: Mapping[str, Any]


def counted(count: int, thing: str) -> str:
    """A number of things, as ``1 clip`` or ``2 clips``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


class Verdict(NamedTuple):
    """What came of a claim: a word, and the numbers that it rests on."""

    word: str
    why: str


HOLDS, FAILS, WITHIN = "holds", "does not hold", "within one standard error"
UNDECIDED, NOT_RUN = "undecided", "not run"


@dataclass(frozen=True)
class Claim:
    """Some cells are better than others by a measure.

    Attributes:
        text: the claim.
        pairs: names of cells, the better one first.
        measure: title of the measure.
    """

    text: str
    pairs: Sequence[tuple[str, str]]
    measure: str

    def verdict(self, results: Results) -> Verdict:
        """Whether it holds for every pair, by the differences clip by clip: the least of the verdicts.

        One holds if the mean difference is above its standard error, and does not if it is below minus that; on one
        clip, which has no standard error, it is undecided.
        """
        words, reasons = [], []
        for better, worse in self.pairs:
            differences = _differences(results, better, worse, self.measure)
            word, why = _judged(differences)
            words.append(word)
            reasons.append(f"{better} over {worse}: {why}")
        order = (NOT_RUN, FAILS, UNDECIDED, WITHIN, HOLDS)
        return Verdict(min(words, key=order.index), "; ".join(reasons))


def _differences(results: Results, better: str, worse: str, measure: str) -> list[float]:
    """By how much one row's clips are better than the same clips of another."""
    sides: list[dict[tuple[tuple[str, ...], str], float]] = []
    for name in (better, worse):
        cells = [cell for cell in results if cell.name == name]
        sides.append({(cell.kinds, clip): v for cell in cells for clip, v in results[cell][measure].by_clip.items()})
    both = (sides[0][clip] - sides[1][clip] for clip in sides[0].keys() & sides[1].keys())
    return [difference for difference in both if not math.isnan(difference)]


def _judged(differences: list[float]) -> tuple[str, str]:
    if not differences:
        return NOT_RUN, "no clip has both"
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
        name: of the command, ``table3``.
        title: what the paper calls it.
        cells: in the order of the rows.
        measures: the columns.
        clips: in each cell, in the paper.
        epochs: of each fit, in the paper.
        claims: that are checked.
        draw: its picture of what was found; None for bars.
        notes: to be told with it.
        in_paper: whether the paper has it.
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
        """In full: the paper's, if it tells it."""
        return Size(self.clips, self.epochs)

    @property
    def own_settings(self) -> set[str]:
        """Names of the settings that every cell has of its own, so that nothing can be asked for them."""
        return set.intersection(*(set(cell.settings) for cell in self.cells))

    def results(self, found: Found) -> Results:
        """What was measured in each cell."""
        return {
            cell: {
                measure.title: Values({fit.clip: measure.of(fit.facts) for fit in found[cell]})
                for measure in self.measures
            }
            for cell in self.cells
        }

    def publishes(self, measure: Measure) -> bool:
        """Whether the paper has numbers in a column."""
        return any(measure.title in cell.published for cell in self.cells)
