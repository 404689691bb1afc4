"""Tests of autoregressive gap filling: exact cases, finite results, invariance to level and time reversal."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from dawp.dsp import autoregression, gaps
from dawp.dsp.autoregression import Model, Slope, VaryingModel
from dawp.dsp.gaps import pseudo_gaps as pseudo_gaps_module
from dawp.dsp.gaps import varying
from dawp.dsp.gaps.fillers import MAX_PEAK
from dawp.dsp.gaps.methods import _fill as fill_gap
from dawp.dsp.gaps.pseudo_gaps import RECIPES, SPEECH, TONAL, candidates, choose, pseudo_gaps, stack_weights
from dawp.dsp.gaps.window import Gap, Recording, runs
from dawp.errors import BadInput

RATE = 16000
METHODS = sorted(gaps.METHODS)


def sinusoids(seconds=1.5, rate=RATE, frequencies=(220.0, 331.7, 1234.5, 3001.0), seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    return sum(
        rng.uniform(0.3, 1) * np.sin(2 * np.pi * frequency * time + rng.uniform(0, 6)) for frequency in frequencies
    )


def resonant_noise(seconds=1.5, seed=0, rate=RATE):
    """Return noise filtered by resonances, which is partly predictable, with a noise floor."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    sound = rng.standard_normal(round(seconds * rate))
    for frequency, radius in ((300, 0.998), (1100, 0.995), (2600, 0.99)):
        sound = lfilter([1.0], [1.0, -2 * radius * math.cos(2 * math.pi * frequency / rate), radius**2], sound)
    return sound / np.abs(sound).max() + 1e-4 * rng.standard_normal(len(sound))


def mask_of(length, *bounds):
    mask = np.ones(length, dtype=bool)
    for start, stop in bounds:
        mask[start:stop] = False
    return mask


def snr(estimate, clean):
    return 10 * math.log10(np.square(clean).sum() / max(np.square(estimate - clean).sum(), 1e-300))


# Autoregression


def slow_burg(segments, order, weight):
    """Burg's method, sample by sample; the weight is a function of the centre of a prediction."""
    forward = [dict(enumerate(samples, start)) for start, samples in segments]
    backward = [dict(errors) for errors in forward]
    model = [1.0]
    for m in range(1, order + 1):
        product = power = 0.0
        pairs = []
        for f, b, (start, samples) in zip(forward, backward, segments, strict=True):
            for t in range(start + m, start + len(samples)):
                v = weight(t - m / 2)
                product += v * f[t] * b[t - 1]
                power += v * (f[t] ** 2 + b[t - 1] ** 2)
                pairs.append((f, b, t))
        k = -2 * product / power
        for f, b, t in reversed(pairs):  # so that b[t - 1] is still that of the previous stage
            f[t], b[t] = f[t] + k * b[t - 1], b[t - 1] + k * f[t]
        padded = [*model, 0.0]
        model = [a + k * c for a, c in zip(padded, reversed(padded), strict=True)]
    return np.array(model)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bounds", [[(0, 300)], [(0, 120), (150, 300)], [(0, 4), (10, 200), (210, 215), (230, 300)]])
def test_burg_agrees_with_a_slow_one(bounds, weighted):
    samples = resonant_noise()[:300]

    def weight(places):
        return np.cos(np.pi * (np.asarray(places) - 150) / 320) ** 2 if weighted else np.ones_like(places)

    fast = autoregression.burg(samples, bounds, [5, 24], weight if weighted else None)
    for model in fast:
        slow = slow_burg([(a, samples[a:b]) for a, b in bounds], len(model.coefficients) - 1, weight)
        assert model.coefficients == pytest.approx(slow, abs=1e-9)


def test_burg_agrees_with_librosa():
    import librosa

    samples = resonant_noise()[:2000]
    (model,) = autoregression.burg(samples, [(0, 2000)], [40])
    assert model.coefficients == pytest.approx(librosa.lpc(samples, order=40), abs=1e-8)


def test_burg_finds_the_model_and_the_variance_of_a_process():
    from scipy.signal import lfilter

    true = np.array([1.0, -1.5, 1.2, -0.4])
    noise = 0.1 * np.random.default_rng(1).standard_normal(200_000)
    samples = lfilter([1.0], true, noise)
    (model,) = autoregression.burg(samples, [(0, len(samples))], [3])
    assert model.coefficients == pytest.approx(true, abs=0.01)
    assert model.variance * np.mean(samples**2) == pytest.approx(0.01, rel=0.02)


def test_a_model_is_minimum_phase():
    (model,) = autoregression.burg(resonant_noise()[:800], [(0, 350), (400, 800)], [100])
    assert np.abs(np.roots(model.coefficients)).max() < 1


def test_extrapolation_continues_a_sinusoid():
    sound = sinusoids(frequencies=(440.0,))
    model = Model(np.array([1.0, -2 * math.cos(2 * math.pi * 440 / RATE), 1.0]), 0.0)
    assert autoregression.extrapolate(sound[:100], model, 200) == pytest.approx(sound[100:300], abs=1e-8)


def test_interpolation_at_an_end_is_extrapolation():
    sound = resonant_noise()[:600]
    (model,) = autoregression.burg(sound[:500], [(0, 500)], [30])
    missing = ~mask_of(600, (500, 600))
    expected = autoregression.extrapolate(sound[:500], model, 100)
    assert autoregression.interpolate(sound, missing, [model]) == pytest.approx(expected, abs=1e-8)
    backward = autoregression.interpolate(sound[::-1], missing[::-1], [model])
    assert backward == pytest.approx(expected[::-1], abs=1e-8)


@pytest.mark.parametrize("bounds", [[(60, 75)], [(3, 20)], [(110, 119)], [(10, 14), (20, 40), (90, 118)]])
def test_interpolation_is_the_conditional_mean(bounds):
    """Compare with the inverse of the covariance matrix of the process."""
    from scipy.linalg import toeplitz
    from scipy.signal import lfilter

    sound = resonant_noise()[:120]
    (model,) = autoregression.burg(resonant_noise(), [(0, 4000)], [8])
    response = lfilter([1.0], model.coefficients, np.eye(1, 60_000)[0])
    covariance = toeplitz([response[lag:] @ response[: len(response) - lag] for lag in range(120)])
    missing = ~mask_of(120, *bounds)
    known = ~missing
    expected = covariance[np.ix_(missing, known)] @ np.linalg.solve(covariance[np.ix_(known, known)], sound[known])
    assert autoregression.interpolate(sound, missing, [model]) == pytest.approx(expected, abs=1e-6)


def test_interpolation_has_the_least_residual_energy():
    sound = resonant_noise()[2000:2600]
    models = autoregression.burg(sound, [(0, 280), (320, 600)], [16, 40])
    missing = ~mask_of(600, (280, 320))

    def energy(values):
        filled = sound.copy()
        filled[280:320] = values
        return sum(
            np.square(np.convolve(filled, model.coefficients, "valid")).sum() / model.variance for model in models
        )

    best = autoregression.interpolate(sound, missing, models)
    rng = np.random.default_rng(2)
    assert all(energy(best) < energy(best + 1e-3 * rng.standard_normal(40)) for _ in range(20))


# Gaps


@pytest.mark.parametrize("block", [1, 8, 90])
@pytest.mark.parametrize("gap_is_used", [False, True])
def test_a_varying_model_solves_the_weighted_normal_equations(gap_is_used, block):
    """Compare the recursion of the normal equations with least squares over all predicted samples."""
    order, size, start, stop, context = 7, 90, 40, 52, 39.0
    rng = np.random.default_rng(1)
    samples = rng.standard_normal(size)
    places = np.arange(size)
    weights = np.cos(np.pi / 2 * np.maximum(start - places, places - stop + 1).clip(0) / context) ** 2
    weights = weights[places // block * block]
    ahead, behind = weights.copy(), weights.copy()
    if not gap_is_used:
        ahead[start : stop + order] = 0
        behind[start - order : stop] = 0
    model = autoregression.fit_varying(samples, ahead, behind, order, Slope(45.5, 1 / 45), (1e-7, 1e-3))
    rows, targets = [], []
    for predicted, weights, step in ((places[order:], ahead, -1), (places[: size - order], behind, 1)):
        for t in predicted:
            others = samples[[t + step * k for k in range(1, order + 1)]]
            rows.append(math.sqrt(weights[t]) * np.concatenate([others, others * (t - 45.5) / 45]))
            targets.append(-math.sqrt(weights[t]) * samples[t])
    design = np.array(rows)
    gram = design.T @ design
    power = np.trace(gram[:order, :order]) / order
    gram += power * np.diag([1e-7] * order + [1e-3] * order)
    solution = np.linalg.solve(gram, design.T @ np.array(targets))
    np.testing.assert_allclose(np.concatenate(model), solution, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("length", [1, 5, 12])
def test_a_varying_model_fills_with_the_least_residual_energy(length, weighted):
    rng = np.random.default_rng(2)
    order, size, start = 6, 60, 30
    samples, slope = rng.standard_normal(size), Slope(31.5, 1 / 40)
    model = VaryingModel(rng.standard_normal(order) / 6, rng.standard_normal(order) / 6)
    weights = rng.uniform(0.1, 3, size) if weighted else np.ones(size)
    if weighted:
        filled = autoregression.interpolate_weighted(samples, start, start + length, model, slope, weights)
    else:
        filled = autoregression.interpolate_varying(samples, start, start + length, model, slope)
    roots = np.sqrt(np.concatenate([weights[order:], weights[:-order]]))

    def residuals(values):
        x = np.concatenate([samples[:start], values, samples[start + length :]])
        tau = (np.arange(size) - 31.5) / 40
        coefficients = [1.0] * size, *(model.constant[:, None] + np.multiply.outer(model.slope, tau))
        ahead = [sum(c[t] * x[t - k] for k, c in enumerate(coefficients)) for t in range(order, size)]
        behind = [sum(c[t] * x[t + k] for k, c in enumerate(coefficients)) for t in range(size - order)]
        return roots * np.array(ahead + behind)

    base = residuals(np.zeros(length))
    columns = np.stack([residuals(unit) - base for unit in np.eye(length)], axis=1)
    np.testing.assert_allclose(filled, np.linalg.lstsq(columns, -base)[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("milliseconds", [1, 2, 5, 10, 20])
def test_a_sum_of_sinusoids_is_filled(method, milliseconds):
    sound = sinusoids()
    start = 12_000
    mask = mask_of(len(sound), (start, start + milliseconds * 16))
    filled = gaps.fill(np.where(mask, sound, 0), mask, RATE, method)
    # Four tones do not fit into the 25 ms of the short model of ar_varying at once.
    assert snr(filled[~mask], sound[~mask]) > (60 if method != "ar_varying" or milliseconds < 20 else 10)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_time_reversal_and_level_change_nothing(method):
    sound = resonant_noise()
    mask = mask_of(len(sound), (0, 40), (5000, 5080), (9000, 9300), (9350, 9400), (15_000, 15_016), (23_900, 24_000))
    filled = gaps.fill(sound, mask, RATE, method)
    scale = np.abs(filled[~mask]).max()
    backward = gaps.fill(sound[::-1].copy(), mask[::-1].copy(), RATE, method)[::-1]
    assert np.abs(backward - filled).max() < 1e-6 * scale
    for factor in (3e-5, 1e4):
        louder = gaps.fill(factor * sound, mask, RATE, method) / factor
        assert np.abs(louder - filled).max() < 1e-6 * scale


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_known_samples_are_unchanged(method, dtype):
    sound = torch.from_numpy(resonant_noise()).to(dtype)
    mask = torch.from_numpy(mask_of(len(sound), (100, 160), (7000, 7320)))
    damaged = torch.where(mask, sound, torch.nan)
    filled = gaps.fill(damaged, mask, RATE, method)
    assert filled.dtype == dtype
    assert torch.equal(filled[mask], sound[mask])
    assert damaged.isnan().any()
    assert filled.isfinite().all()


HOSTILE = {
    "constant": np.full(4000, 0.5),
    "full scale": np.where(np.arange(4000) // 7 % 2, 1.0, -1.0),
    "impulse": np.eye(1, 4000, 1800)[0],
    "denormal": 1e-310 * resonant_noise()[:4000],
    "huge": 1e300 * resonant_noise()[:4000],
    "silence": np.zeros(4000),
    "step": (np.arange(4000) > 2000) * 1.0,
    "nyquist": (-1.0) ** np.arange(4000),
}
PLACES = {
    "start": [(0, 80)],
    "end": [(3920, 4000)],
    "middle": [(1960, 2040)],
    "beside another": [(1900, 1960), (1961, 2040), (2045, 2050)],
    "all but 64": [(0, 2000), (2064, 4000)],
    "all but 64, in pieces": [(0, 1000), (1032, 3000), (3032, 4000)],
    "every second sample": [(i, i + 1) for i in range(0, 4000, 2)],
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ar_varying", "auto"])  # auto uses the fillers of the others
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("signal", HOSTILE)
def test_hostile_input_is_filled_with_finite_samples(method, place, signal):
    sound, mask = HOSTILE[signal], mask_of(4000, *PLACES[place])
    filled = gaps.fill(sound, mask, RATE, method)
    assert np.isfinite(filled).all()
    assert np.abs(filled).max() <= MAX_PEAK * np.abs(sound[mask]).max()
    assert np.array_equal(filled[mask], sound[mask])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("length", [64, 65, 200])
def test_a_very_short_clip(method, length):
    sound = sinusoids(frequencies=(500.0,))[:length]
    mask = mask_of(length, (30, 40))
    assert snr(gaps.fill(sound, mask, RATE, method)[~mask], sound[~mask]) > 20


@pytest.mark.parametrize("method", METHODS)
def test_silence_is_filled_with_silence(method):
    sound = resonant_noise()
    sound[8000:20_000] = 0
    mask = mask_of(len(sound), (14_000, 14_100))
    assert not gaps.fill(sound, mask, RATE, method)[14_000:14_100].any()


@pytest.mark.parametrize("method", METHODS)
def test_one_sided_gaps_are_extrapolated(method):
    sound = sinusoids()
    mask = mask_of(len(sound), (0, 160), (len(sound) - 160, len(sound)))
    filled = gaps.fill(sound, mask, RATE, method)
    least = 6 if method == "ar_varying" else 60
    assert snr(filled[:160], sound[:160]) > least
    assert snr(filled[-160:], sound[-160:]) > least


@pytest.mark.parametrize("method", METHODS)
def test_many_gaps_close_together(method):
    sound = sinusoids(frequencies=(220.0, 331.7))
    mask = mask_of(len(sound), *((start, start + 32) for start in range(10_000, 12_000, 100)))
    assert snr(gaps.fill(sound, mask, RATE, method)[~mask], sound[~mask]) > 40


@pytest.mark.parametrize("milliseconds", [100, 300, 900])
def test_a_long_gap_has_no_jump_and_no_silence(milliseconds):
    sound = resonant_noise(3.0)
    start, stop = 24_000 - milliseconds * 8, 24_000 + milliseconds * 8
    mask = mask_of(len(sound), (start, stop))
    filled = gaps.fill(sound, mask, RATE)
    steps, usual = np.abs(np.diff(filled)), np.abs(np.diff(sound)).max()
    assert steps[start - 2 : stop + 2].max() < 1.2 * usual
    level = np.sqrt(np.mean(sound**2))
    frames = filled[start:stop][: (stop - start) // 800 * 800].reshape(-1, 800)
    levels = np.sqrt(np.mean(frames**2, axis=1)) / level
    assert levels.max() < 2
    assert levels.min() > 0.1


def test_a_tone_does_not_ring_through_a_long_gap():
    """The gap contains weaker noise instead of the tone."""
    sound = sinusoids(4.0, frequencies=(440.0,))
    start, stop = 20_000, 44_000
    mask = mask_of(len(sound), (start, stop))
    middle = gaps.fill(sound, mask, RATE)[start + 6400 : stop - 6400]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
    frequencies = np.fft.rfftfreq(len(middle), 1 / RATE)
    assert spectrum[np.abs(frequencies - 440) < 3].sum() < 0.5 * spectrum.sum()
    assert np.sqrt(np.mean(middle**2)) < np.sqrt(np.mean(sound**2))


def test_auto_takes_the_best_recipe(speech):
    """Compare a voice with a varying pitch, a sustained chord and tones with vibrato."""
    voice = speech.double().numpy()
    chord = sinusoids(2.0, frequencies=[f * k for f in (196.0, 246.9, 293.7) for k in range(1, 9)])
    chord += 1e-3 * np.random.default_rng(3).standard_normal(len(chord))
    time = np.arange(2 * RATE) / RATE
    vibrato = sum(np.sin(k * (2 * math.pi * 220 * time + 3 * np.sin(2 * math.pi * 5 * time))) / k for k in range(1, 20))
    chosen = []
    for sound in (voice, chord, vibrato):
        mask = mask_of(len(sound), *((start, start + 80) for start in range(3000, len(sound) - 3000, 2000)))
        recording = Recording(sound, mask, RATE, [Gap(*bounds) for bounds in runs(~mask)])
        chosen.append(choose(recording, recording.gaps).recipe)
        audible = [gap for gap in recording.gaps if np.abs(sound[slice(*gap)]).max() > 1e-2 * np.abs(sound).max()]
        means = [
            np.mean([snr(fill_gap(recording, gap, recipe), sound[slice(*gap)]) for gap in audible])
            for recipe in (chosen[-1], *RECIPES)
        ]
        assert means[0] > max(means) - 0.3
    assert chosen[0] == SPEECH != chosen[1]


@pytest.mark.parametrize("most", [0, 15])
def test_few_gaps_of_a_chord_are_filled_by_a_weighted_mean(monkeypatch, most):
    monkeypatch.setattr(pseudo_gaps_module, "MAX_TONAL_GAPS", most)
    chord = sinusoids(2.0, 6000, [f * k for f in (196.0, 246.9, 293.7) for k in range(1, 9)])
    chord += 1e-2 * np.random.default_rng(3).standard_normal(len(chord))
    mask = mask_of(len(chord), *((start, start + 30) for start in range(900, 11_000, 900)))
    recording = Recording(chord, mask, 6000, [Gap(*bounds) for bounds in runs(~mask)])
    recipe = choose(recording, recording.gaps).recipe
    assert (recipe in RECIPES) == (most < len(recording.gaps))
    assert set(recipe) <= {*TONAL, *(filler for fixed in RECIPES for filler in fixed)}
    assert sum(recipe.values()) == pytest.approx(1)


def test_candidates_are_not_clearly_worse():
    snrs = np.array([[20.0, 19.8, 10.0], [10.0, 10.4, 2.0], [15.0, 14.9, 3.0], [12.0, 12.1, 1.0]])
    assert candidates(snrs) == [0, 1]
    assert candidates(snrs[:3]) == [0, 1, 2]  # too few to drop any
    snrs[3, 2] = 30.0
    assert candidates(snrs) == [0, 1, 2]  # the third one varies too much


def vowel(seed=0, pitch=120):
    """Return pulses of varying period and amplitude, filtered by resonances, with a noise floor."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    sound = 0.01 * rng.standard_normal(RATE)
    pulse = 0.0
    while pulse < RATE - 1:
        sound[int(pulse)] += 1 + 0.2 * rng.standard_normal()
        pulse += RATE / pitch * (1 + 0.03 * rng.standard_normal())
    for frequency, radius in ((500, 0.985), (1500, 0.97), (2500, 0.96)):
        sound = lfilter([1.0], [1.0, -2 * radius * math.cos(2 * math.pi * frequency / RATE), radius**2], sound)
    return sound / np.abs(sound).max()


@pytest.mark.parametrize("pitch", [120, 200, 350])
@pytest.mark.parametrize("missing", [32, 320])
def test_the_period_of_a_voice_is_found_on_either_side_of_a_gap(pitch, missing):
    """A multiple of the period, whose correlation is nearly as large, is not taken as a rule."""
    sounds = [vowel(pitch=pitch)[start - 560 : start + 560 + missing] for start in range(1500, 14_000, 1130)]
    periods = [varying._period(sound[:560], sound[-560:], 32, 224) for sound in sounds]
    assert np.median(periods) == pytest.approx(RATE / pitch, rel=0.05)


@pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (1, 1), (40, 300)])
def test_a_period_is_within_its_bounds(sizes):
    samples = resonant_noise()
    assert 32 <= varying._period(samples[: sizes[0]], samples[: sizes[1]], 32, 224) <= 224


def test_local_variances_of_the_residual_improve_a_voice(monkeypatch):
    sound = vowel()
    mask = mask_of(RATE, *((start, start + 32) for start in range(1500, 14_500, 1130)))
    means = []
    for longest in (0.02, 0.0):
        monkeypatch.setattr(varying, "MAX_WEIGHTED_SECONDS", longest)
        filled = gaps.fill(np.where(mask, sound, 0), mask, RATE, "ar_varying")
        means.append(np.mean([snr(filled[slice(*run)], sound[slice(*run)]) for run in runs(~mask)]))
    assert means[0] > means[1] + 2


def test_stack_weights_prefer_the_filler_without_error():
    rng = np.random.default_rng(4)
    errors = [np.stack([rng.standard_normal(50), 1e-6 * rng.standard_normal(50), np.ones(50)]) for _ in range(8)]
    weights = stack_weights(errors)
    assert weights.sum() == pytest.approx(1)
    assert weights[1] > 0.99
    opposite = [np.stack([error[0], -error[0], 10 * error[2]]) for error in errors]
    assert stack_weights(opposite) == pytest.approx([0.5, 0.5, 0], abs=1e-3)


def test_pseudo_gaps_are_known_and_do_not_overlap():
    sound = resonant_noise()
    mask = mask_of(len(sound), (12_000, 12_080), (12_700, 12_800), (11_000, 11_010))
    recording = Recording(sound, mask, RATE, [Gap(*bounds) for bounds in runs(~mask)])
    places = pseudo_gaps(recording, Gap(12_000, 12_080), 8, 80)
    used = np.zeros(len(sound), dtype=int)
    for start, stop in places:
        assert mask[start:stop].all()
        used[start:stop] += 1
    assert len(places) >= 8
    assert used.max() == 1


@pytest.mark.parametrize("method", METHODS)
def test_threads_change_nothing(method):
    sound = resonant_noise(3.0)
    mask = mask_of(len(sound), *((start, start + 80) for start in range(4000, 44_000, 8000)))
    one, two = (gaps.fill(sound, mask, RATE, method, workers) for workers in (1, 3))
    assert np.array_equal(one, two)


def test_bad_input_is_refused():
    sound, mask = np.zeros(100), mask_of(100, (10, 20))
    for arguments in (
        (sound, mask[:50], RATE),
        (sound[None], mask[None], RATE),
        (sound, mask.astype(int), RATE),
        (sound, np.zeros(100, dtype=bool), RATE),
        (sound, mask, RATE, "none"),
    ):
        with pytest.raises(BadInput):
            gaps.fill(*arguments)


def test_a_whole_recording_is_returned():
    sound = resonant_noise()
    assert np.array_equal(gaps.fill(sound, np.ones(len(sound), dtype=bool), RATE), sound)


def test_numba_is_not_imported_with_the_package():
    code = "import sys, dawp, dawp.dsp.gaps; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
