"""Pseudo-gaps: known parts of a recording that are filled as if they were missing, to choose a method blind."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from dawp.dsp.gaps.across import predict, share_of_others
from dawp.dsp.gaps.fillers import Filler, fill_window, with_noise
from dawp.dsp.gaps.window import Gap, Recording, window_around

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

Item = TypeVar("Item")
Result = TypeVar("Result")

Recipe = dict[Filler, float]
"""Fillers and the weight of each in the weighted mean."""

AR: Recipe = {Filler("shared", 0.0464, 0.1858): 1.0}
MUSIC: Recipe = {
    Filler("shared", 0.0232, 0.1858): 0.25,
    Filler("shared", 0.0464, 0.1858): 0.25,
    Filler("shared", 0.0232, 0.0929): 0.25,
    Filler("separate", 0.0232, 0.0929): 0.25,
}
SPEECH: Recipe = {Filler("varying", 0.016, 0.035): 0.95, Filler("shared", 0.012, 0.025): 0.05}
SUSTAINED: Recipe = {Filler("shared", 0.0464, 0.1858): 0.5, Filler("shared", 0.0464, 0.3715): 0.5}
RECIPES = (MUSIC, SPEECH, SUSTAINED)
"""The recipes that are compared, the preferred one first."""
TONAL = (
    *MUSIC,
    Filler("shared", 0.0464, 0.3715),
    Filler("shared", 0.0929, 0.3715),
    Filler("separate", 0.0464, 0.1858),
)
"""The fillers of the weighted mean that replaces a recipe for music or sustained tones."""
STACK = (
    Filler("shared", 0.0116, 0.0464),
    Filler("shared", 0.0232, 0.0929),
    Filler("shared", 0.0232, 0.1858),
    Filler("shared", 0.0464, 0.1858),
    Filler("shared", 0.0464, 0.3715),
    Filler("separate", 0.0232, 0.0929),
    Filler("separate", 0.0232, 0.1858),
    Filler("zero"),
)

PSEUDO_GAPS, STACK_PSEUDO_GAPS = (4, 12, 24), 8  # the first: after each stage of a choice
PSEUDO_GAP_SITES = 6  # gaps that have pseudo-gaps nearby
DROP_DB, MAX_DROP_DB = 0.5, 1.0  # least and, after the second stage, largest disadvantage at which a recipe is dropped
MAX_TONAL_GAPS = 40  # of an interval that are filled by the weighted mean: it takes 4 times as long as `MUSIC`
MAX_PSEUDO_SECONDS, MAX_PSEUDO_DISTANCE = 0.08, 5.0  # length, and distance from the gap
PSEUDO_STEP = 0.02  # seconds between pseudo-gaps, and to the gap, beside their own length
STACK_RIDGE = 1e-9  # times the trace of the error matrix
QUIET = 1e-3  # RMS of a pseudo-gap, relative to that of its surroundings, below which it is not used


def pseudo_gaps(recording: Recording, gap: Gap, count: int, length: int) -> list[Gap]:
    """The nearest known places of some length, in pairs of the same distance on either side of a gap.

    Args:
        recording: with the gap.
        gap: one of its gaps.
        count: number of places, one more if two have the same distance.
        length: in samples.

    Returns:
        Fewer than ``count`` if there are not enough within 5 s. Places that are much quieter than their surroundings
        are omitted.
    """
    rate = recording.sample_rate
    step = round(PSEUDO_STEP * rate) + length
    margin = min(step - length, length)
    found: list[Gap] = []
    centre = gap.start + gap.stop
    for k in range(1, math.ceil(MAX_PSEUDO_DISTANCE * rate / step) + 1):
        after = Gap(gap.stop + k * step - length, gap.stop + k * step)
        before = Gap(centre - after.stop, centre - after.start)
        for place in (before, after):
            first, last = place.start - margin, place.stop + margin
            if first < 0 or last > len(recording.mask) or not recording.mask[first:last].all():
                continue
            around = recording.waveform[max(0, first - step) : last + step]
            known = recording.mask[max(0, first - step) : last + step]
            inside = recording.waveform[place.start : place.stop]
            if _rms(inside) > QUIET * _rms(around[known]):
                found.append(place)
        if len(found) >= count:
            break
    return found


def _rms(samples: NDArray[Any]) -> float:
    peak = float(np.abs(samples).max())
    return peak * math.sqrt(np.square(samples / peak, dtype=np.float64).mean()) if peak else 0.0


def _errors(
    recording: Recording, gap: Gap, fillers: Sequence[Filler], exponent: int | None = None
) -> tuple[Array, Array]:
    """The errors ``[fillers, length]`` at a pseudo-gap and its samples ``[length]``.

    Both are divided by 2 to a power, that of the window by default.
    """
    window = window_around(recording, gap, max(filler.context for filler in fillers))
    exponent = window.exponent if exponent is None else exponent
    fills = fill_window(window, fillers)
    true = np.ldexp(recording.waveform[gap.start : gap.stop].astype(np.float64), -exponent)
    scaled = np.stack([np.ldexp(fills[filler], window.exponent - exponent) for filler in fillers])
    return scaled - true, true


def stack_weights(errors: Sequence[Array]) -> Array:
    """Weights of fillers that sum to 1, are not negative and minimise the squared error at pseudo-gaps.

    The error at each pseudo-gap is divided by its median over the fillers.

    Args:
        errors: ``[fillers, length]`` at each pseudo-gap.

    Returns:
        ``[fillers]``.
    """
    from scipy.optimize import nnls

    grams = [error @ error.T for error in errors]
    medians = [float(np.median(gram.diagonal())) for gram in grams]
    total = np.sum([gram / median for gram, median in zip(grams, medians, strict=True) if median > 0], axis=0)
    size = len(grams[0])
    if not np.any(total):
        return np.full(size, 1 / size)
    # Since the weights sum to 1, their direction is that of least squares with any penalty on the sum.
    root = np.linalg.cholesky(total / np.trace(total) + STACK_RIDGE * np.eye(size)).T
    weights, _ = nnls(np.concatenate([root, np.ones((1, size))]), np.concatenate([np.zeros(size), [1.0]]))
    return np.asarray(weights / weights.sum())


def stacked_recipe(recording: Recording, gap: Gap) -> Recipe:
    """Fit the weights of the eight interpolations of `STACK` to the pseudo-gaps nearest to a gap.

    The mean of four is returned if there are fewer than four pseudo-gaps.
    """
    length = min(gap.stop - gap.start, round(MAX_PSEUDO_SECONDS * recording.sample_rate))
    places = pseudo_gaps(recording, gap, STACK_PSEUDO_GAPS, length)
    if len(places) < STACK_PSEUDO_GAPS // 2:
        return MUSIC
    return _weighted(STACK, stack_weights([_errors(recording, place, STACK)[0] for place in places]))


def _tonal_recipe(recording: Recording, gaps: Sequence[Gap], workers: int) -> Recipe | None:
    """Fit the weights of `TONAL` to pseudo-gaps near some of the gaps; None if there are too few."""
    places = _places_near(recording, gaps, PSEUDO_GAPS[1])
    if len(places) < STACK_PSEUDO_GAPS:
        return None
    pairs = parallel_map(functools.partial(_errors, recording, fillers=TONAL), places, workers)
    return _weighted(TONAL, stack_weights([errors for errors, _ in pairs]))


def _weighted(fillers: Sequence[Filler], weights: Array) -> Recipe:
    """Return fillers with their weights, without those of weight 0."""
    return {filler: weight for filler, weight in zip(fillers, weights.tolist(), strict=True) if weight}


class Choice(NamedTuple):
    """A recipe for the gaps of an interval."""

    recipe: Recipe
    share: float = 0.0  # weight of the fill that uses the other channels


def choose(recording: Recording, gaps: Sequence[Gap], workers: int = 1) -> Choice:
    """Choose the recipe with the highest mean SNR in dB at pseudo-gaps near some of the gaps.

    Recipes that are clearly worse at the first pseudo-gaps are not compared at more of them. If there are at most 40
    gaps, of music or sustained tones, a weighted mean of `TONAL` replaces the recipe.

    Args:
        recording: with the gaps.
        gaps: of similar length, in order.
        workers: number of threads.

    Returns:
        The recipe, and the weight of the other channels.
    """
    places: list[Gap] = []
    recipes = list(RECIPES)
    snrs = np.zeros((0, len(recipes)))
    for count in PSEUDO_GAPS:
        added = [place for place in _places_near(recording, gaps, count) if place not in places]
        if len(recipes) > 1 and added:
            places += added
            rows = list(parallel_map(functools.partial(_snrs, recording, recipes), added, workers))
            snrs = np.concatenate([snrs, np.array(rows)])
            kept = candidates(snrs)
            recipes, snrs = [recipes[index] for index in kept], snrs[:, kept]
    if not places:
        return Choice(MUSIC)
    recipe = recipes[int(np.argmax(snrs.mean(0)))]
    if recipe is not SPEECH and len(gaps) <= MAX_TONAL_GAPS:
        recipe = _tonal_recipe(recording, gaps, workers) or recipe
    if not recording.others:
        return Choice(recipe)
    near = _places_near(recording, gaps, PSEUDO_GAPS[1])
    pairs = parallel_map(functools.partial(_errors_across, recording, recipe), near, workers)
    return Choice(recipe, share_of_others([pair for pair in pairs if pair]))


def candidates(snrs: Array) -> list[int]:
    """Return the recipes that may be the best, given their SNR in dB ``[places, recipes]`` at the same places.

    A recipe is dropped if its mean is 0.5 dB plus ``1 + 12 / places`` standard errors of the difference below that of
    the best one, or 1 dB from 12 places on. All are kept at fewer places than those of the first stage.
    """
    if len(snrs) < PSEUDO_GAPS[0]:
        return list(range(snrs.shape[1]))
    best = int(np.argmax(snrs.mean(0)))
    deficits = snrs[:, [best]] - snrs
    margins = DROP_DB + (1 + 12 / len(snrs)) * deficits.std(0) / math.sqrt(len(snrs) - 1)
    if len(snrs) >= PSEUDO_GAPS[1]:
        margins = np.minimum(margins, MAX_DROP_DB)
    return [index for index, mean in enumerate(deficits.mean(0)) if mean <= margins[index]]


def _places_near(recording: Recording, gaps: Sequence[Gap], total: int) -> list[Gap]:
    """Pseudo-gaps near some of the gaps, about as many as ``total``."""
    lengths = sorted(gap.stop - gap.start for gap in gaps)
    length = min(lengths[len(lengths) // 2], round(MAX_PSEUDO_SECONDS * recording.sample_rate))
    used = min(len(gaps), max(1, total // 2), PSEUDO_GAP_SITES)
    lower = [int((i + 0.5) * len(gaps) / used) for i in range((used + 1) // 2)]
    chosen = sorted({*lower, *(len(gaps) - 1 - index for index in lower)})
    count = math.ceil(total / len(chosen))
    return list(dict.fromkeys(p for i in chosen for p in pseudo_gaps(recording, gaps[i], count, length)))


def fill_across(recording: Recording, gap: Gap, recipe: Recipe) -> tuple[Array, int] | None:
    """Fill a gap by what the other channels predict and by a recipe for the residual.

    Returns:
        The samples ``[L]``, divided by 2 to a power, and that power; None if the other channels are missing there too
        or predict too little.
    """
    prediction = predict(recording, gap)
    if prediction is None:
        return None
    fills = fill_window(prediction.residual, list(recipe))
    rest = sum((weight * fills[filler] for filler, weight in recipe.items()), np.zeros(len(prediction.gap)))
    return prediction.gap + with_noise(prediction.residual, rest), prediction.residual.exponent


def _errors_across(recording: Recording, recipe: Recipe, gap: Gap) -> tuple[Array, Array] | None:
    """Errors ``[L]`` at a pseudo-gap without and with the other channels; None if those cannot be used."""
    across = fill_across(recording, gap, recipe)
    if across is None:
        return None
    filled, exponent = across
    errors, _ = _errors(recording, gap, list(recipe), exponent)
    true = np.ldexp(recording.waveform[gap.start : gap.stop].astype(np.float64), -exponent)
    alone = sum((weight * error for weight, error in zip(recipe.values(), errors, strict=True)), np.zeros(len(true)))
    return alone, filled - true


def _snrs(recording: Recording, recipes: Sequence[Recipe], gap: Gap) -> Array:
    """SNR in dB of each recipe at a pseudo-gap."""
    fillers = list(dict.fromkeys(filler for recipe in recipes for filler in recipe))
    errors, true = _errors(recording, gap, fillers)
    snrs = []
    for recipe in recipes:
        error = sum((weight * errors[fillers.index(filler)] for filler, weight in recipe.items()), np.zeros(len(true)))
        snrs.append(10 * math.log10(max(float(true @ true), 1e-300) / max(float(error @ error), 1e-300)))
    return np.array(snrs)


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Apply a function in threads, in order, with a bounded number of results in flight."""
    if workers <= 1 or len(items) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        rest = iter(items)
        pending = [pool.submit(function, item) for item in islice(rest, 4 * workers)]
        while pending:
            yield pending.pop(0).result()
            pending.extend(pool.submit(function, item) for item in islice(rest, 1))
