import math

import pytest
import torch
from conftest import SAMPLES, TINY, refused_as, write_sound

import dawp
from dawp.errors import BadInput
from dawp.io.audio import mark_missing, read, true_runs
from dawp.methods.deep_prior.fit import Fit
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.methods.deep_prior.settings import FitConfig
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.tasks.inpaint import GapConfig, cut_gaps, find_gaps

RATE = 16000


def cut(clean, seed=0, **settings):
    return cut_gaps(clean, RATE, GapConfig(**settings), seeded(seed, "corruption"))


@pytest.mark.parametrize(("gap_ms", "n_gaps"), [(1.0, 1), (2.0, 8), (5.0, 20), (100.0, 2), (0.125, 3)])
def test_gaps_have_the_requested_length_and_number_and_are_zero(speech, gap_ms, n_gaps):
    problem = cut(speech, gap_ms=gap_ms, n_gaps=n_gaps)
    lengths = [stop - start for start, stop in problem.gaps]
    assert lengths == [round(gap_ms * RATE / 1000)] * n_gaps
    assert not problem.observed[~problem.mask].any()
    assert torch.equal(problem.observed[problem.mask], speech[problem.mask])
    assert torch.equal(problem.clean, speech)
    assert [start * RATE for start, _ in problem.facts["gaps"]] == pytest.approx([start for start, _ in problem.gaps])


def test_gaps_are_10_ms_apart_and_10_ms_from_the_ends(speech):
    for seed in range(20):
        problem = cut(speech, seed, gap_ms=5.0, n_gaps=12)
        edges = [0, *(edge for gap in problem.gaps for edge in gap), len(speech)]
        assert min(stop - start for start, stop in zip(edges[::2], edges[1::2], strict=True)) >= 160


def test_gaps_lie_where_the_clip_is_not_silent():
    clip = torch.zeros(RATE)
    clip[4000:8000] = 0.3 * torch.sin(torch.arange(4000) / 3)
    clip += 1e-4 * torch.randn(RATE)
    starts = [cut(clip, seed, gap_ms=5.0).gaps[0][0] for seed in range(50)]
    assert min(starts) > 3800
    assert max(starts) < 8200
    assert max(starts) - min(starts) > 2000


def test_same_seed_same_gaps(speech):
    assert cut(speech, 3).gaps == cut(speech, 3).gaps
    assert cut(speech, 3).gaps != cut(speech, 4).gaps


def test_gaps_at_given_positions(speech):
    problem = cut(speech, gaps="0.5:0.002,0.25:0.01")
    assert problem.gaps == [(4000, 4160), (8000, 8032)]
    assert problem.facts["gaps"] == [[0.25, 0.01], [0.5, 0.002]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gaps": "0.999:0.002"}, "0.999:0.002 lies outside the clip of 1 s"),
        ({"gaps": "3:0.002"}, "lies outside the clip of 1 s"),
        ({"gaps": "0:2"}, "0:2 lies outside the clip of 1 s"),
        ({"gaps": "0:1"}, "cover the whole clip of 1.000 s"),
        ({"gaps": "-0.1:0.2"}, "begin at 0 s or later.*got -0.1:0.2"),
        ({"gaps": "0.1:0"}, "last longer than 0 s, got 0.1:0"),
        ({"gaps": "0.1:0.2,0.25:0.1"}, "must not overlap, got 0.25:0.1 after one to 0.3 s"),
        ({"gaps": "0.5:0.00001"}, "gaps: 0.5:1e-05 .* 16000 Hz"),
        ({"gaps": "0.1"}, "gaps must be auto or START:LENGTH,START:LENGTH,... in seconds, got 0.1"),
        ({"gaps": ""}, "gaps must be auto or"),
        ({"gaps": "nan:0.1"}, "gaps must be auto or"),
        ({"gaps": "a:b:c"}, "gaps must be auto or"),
        ({"gaps": "1e308:1e308"}, "gaps must be auto or"),
        ({"gap_ms": 0.05}, "gap_ms must .* 16000 Hz, got 0.05 ms"),
        ({"gap_ms": 100.0, "n_gaps": 50}, r"n_gaps must be at most \d for gaps of 100 ms.* clip of 1 s, got 50"),
        ({"gap_ms": 101.0}, "gap_ms must be a number above 0 and at most 100, got 101"),
        ({"n_gaps": 0}, "n_gaps must be"),
    ],
)
def test_bad_gaps(speech, settings, message):
    with pytest.raises(BadInput, match=message):
        cut(speech, **settings)


def test_bad_clips(speech):
    with refused_as("unusable_recording", "silent"):
        cut(torch.zeros(RATE))
    with pytest.raises(BadInput, match=r"gap_ms must .* clip of 0.1 s, got 100 ms"):
        cut(speech[8000:9600], gap_ms=100.0)


def test_observed_samples_are_kept_except_within_half_a_millisecond_of_a_gap(speech):
    problem = cut(speech, gaps="0.25:0.002,0.5:0.001")
    estimate = problem.estimate(torch.full_like(speech, 9.0))
    inside, near = torch.zeros(RATE, dtype=torch.bool), torch.zeros(RATE, dtype=torch.bool)
    for start, stop in problem.gaps:
        inside[start:stop] = True
        near[start - 8 : stop + 8] = True
    assert (estimate[inside] == 9).all()
    assert torch.equal(estimate[~near], speech[~near])
    slope = problem.blend[4000 - 9 : 4001]
    torch.testing.assert_close(slope, torch.arange(10) / 9)
    torch.testing.assert_close(problem.blend[4032 - 1 : 4032 + 9], slope.flip(0))


def test_raw_output_is_the_output_of_the_network(speech):
    output = torch.full_like(speech, 9.0)
    assert torch.equal(cut(speech, raw_output=True).estimate(output), output)


@pytest.mark.parametrize("settings", [{}, {"normalize": False}, {"generator": "waveunet", "waveunet_levels": 3}])
def test_the_clean_samples_in_a_gap_do_not_affect_the_fit(speech, settings):
    """With the same seed and other clean samples in the gaps, the outputs are identical."""
    other = speech.clone()
    for start, stop in cut(speech, gaps="0.3:0.005,0.6:0.02").gaps:
        other[start:stop] = 0.9
    runs = []
    for clip in (speech, other):
        outputs = []
        result = dawp.inpaint(
            clip,
            gaps="0.3:0.005,0.6:0.02",
            on_epoch=lambda step, _, outputs=outputs: outputs.append(step.output.clone()),
            **{**TINY, "epochs": 12, "lr": 0.01, **settings},
        )
        runs.append((torch.stack(outputs), result.restored.waveform, result.input["gap_psnr"]))
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert runs[0][2] != runs[1][2]  # the metrics differ
    assert not torch.equal(runs[0][0][0], runs[0][0][-1])


def test_the_zeros_of_a_gap_are_not_fitted():
    """Without the mask the gap would be fitted as silence."""
    tone = 0.5 * torch.sin(torch.arange(4000) / 4)
    problem = cut_gaps(tone, RATE, GapConfig(gaps="0.1:0.02"), seeded(0, "corruption"))
    unmasked = Problem(problem.observed, tone, RATE)
    config = GeneratorConfig(depth=2, channels=16, lstm_layers=0, resample=False)
    energies = []
    for posed in (problem, unmasked):
        steps = Fit(posed, build(config, seeded(0, "w")), FitConfig(epochs=300, lr=5e-3, crit="L2"), seeded(0, "i"))
        *_, last = steps
        energies.append(last.output[1600:1920].square().mean().item())
    assert energies[0] > 4 * energies[1]


# Damaged recordings


def damaged(length=4000):
    """Return noise without zeros."""
    return torch.rand(length, generator=torch.Generator().manual_seed(2)) + 0.1


def marked(waveform, shortest=0.001):
    return true_runs(mark_missing(waveform, RATE, shortest).isnan().reshape(len(waveform), -1).any(dim=1))


def test_runs_of_zeros_and_nan_are_drop_outs():
    clip = damaged()
    clip[100:116] = 0  # 1 ms
    clip[300:315] = 0  # less
    clip[500] = torch.nan
    clip[600:603] = torch.inf
    assert marked(clip) == [(100, 116), (500, 501), (600, 603)]
    assert marked(clip, shortest=0.0005) == [(100, 116), (300, 315), (500, 501), (600, 603)]


def test_silence_is_not_a_drop_out():
    clip = damaged(8000)
    clip[:100] = 0
    clip[-100:] = 0
    clip[3000:4601] = 0  # one sample over 100 ms
    assert marked(clip) == []
    clip[4600] = 1
    assert marked(clip) == [(3000, 4600)]
    assert marked(torch.zeros(100)) == []


def test_zeros_after_a_fade_out_are_not_a_drop_out():
    clip = damaged(8000) * torch.cos(torch.arange(8000) / 8000 * 4 * torch.pi)  # zero at 1000, 3000, ...
    clip[960:1040] = 0
    assert marked(clip) == [(960, 1040)]
    faded = clip * (torch.arange(8000) - 1000).abs().div(1000).clamp(max=1) ** 2
    assert marked(faded) == []


@pytest.mark.parametrize("name", ["speech", "singing", "guitar"])
def test_all_drop_outs_and_nothing_else_is_found_in_the_bundled_clips(name):
    """The synthetic speech has many zeros between its words."""
    clip = read(SAMPLES / f"{name}.wav", RATE)
    assert marked(clip) == []
    problem = cut(clip, gap_ms=3.0, n_gaps=20)
    assert marked(problem.observed) == problem.gaps


def marked_in(waveform, channel):
    return true_runs(mark_missing(waveform, RATE, 0.001)[:, channel].isnan())


def test_a_drop_out_is_missing_only_from_the_channels_that_have_it():
    stereo = torch.stack([damaged(), damaged() * 0.5], dim=1)
    stereo[200:240, 1] = 0
    stereo[500, 0] = torch.nan
    stereo[700:740] = 0
    assert marked_in(stereo, 0) == [(500, 501), (700, 740)]
    assert marked_in(stereo, 1) == [(200, 240), (700, 740)]
    stereo[:, 1] = 0  # a silent channel has none
    assert marked_in(stereo, 1) == []


def test_a_common_drop_out_is_also_missing_from_the_quieter_channel():
    stereo = torch.stack([damaged(), damaged()], dim=1)
    stereo[:, 1] *= (torch.arange(4000) - 220).abs().div(1000).clamp(max=1) ** 2  # it dies away there
    stereo[200:240] = 0
    assert marked_in(stereo, 1) == [(200, 240)]
    stereo[200, 0] = 0.5  # another run of zeros
    assert marked_in(stereo, 1) == []


def test_a_sample_missing_from_one_channel_is_missing_from_the_mix(tmp_path):
    stereo = torch.stack([damaged(), damaged()], dim=1)
    stereo[200:240, 1] = 0
    stereo[500, 0] = torch.nan
    path = write_sound(tmp_path / "a.wav", stereo, subtype="FLOAT")
    assert true_runs(read(path, RATE, missing=0.001).isnan()) == [(200, 240), (500, 501)]


def test_drop_outs_are_found_before_the_rate_is_changed(tmp_path):
    clip = 0.3 * torch.sin(torch.arange(48000) / 20) + 0.01
    clip[20000:20100] = 0
    path = write_sound(tmp_path / "a.wav", clip, 48000, subtype="FLOAT")
    ((start, stop),) = true_runs(read(path, RATE, missing=0.001).isnan())
    assert start <= 20000 / 3 <= start + 8  # more samples, by the length of the filter
    assert stop - 8 <= 20100 / 3 <= stop
    with refused_as("unusable_recording", "NaN"):
        read(write_sound(tmp_path / "b.wav", torch.full((1000,), torch.nan), subtype="FLOAT"), RATE)


def test_the_gaps_of_a_damaged_clip(speech):
    broken = speech.clone()
    broken[8000:8080] = torch.nan
    problem = find_gaps(broken, None, RATE, GapConfig(gaps="auto"))
    assert problem.gaps == [(8000, 8080)]
    assert problem.clean is None
    assert problem.observed.isfinite().all()
    both = find_gaps(broken, speech, RATE, GapConfig(gaps="0.1:0.01"))
    assert both.gaps == [(1600, 1760), (8000, 8080)]
    with refused_as("unusable_recording", r"1 s.*from 1 to 100 ms"):
        find_gaps(speech, None, RATE, GapConfig(gaps="auto"))
    with refused_as("unusable_recording", "cover the whole clip"):
        find_gaps(torch.full((100,), torch.nan), None, RATE, GapConfig(gaps="auto"))


def test_a_gap_of_one_sample_has_no_si_snr(speech, caplog):
    broken = speech.clone()
    broken[4000:4080] = torch.nan
    broken[9000] = torch.nan
    result = dawp.inpaint(speech, corrupted=broken, **TINY)
    assert result.best["gap_si_snr"].epoch is None
    assert result.best["gap_psnr"].epoch is not None
    assert "the gap at 0.5625 s is one sample long: gap SI-SNR is NaN" in caplog.text


def test_psnr_on_gaps_uses_the_range_of_the_whole_clip(speech):
    wide, narrow = (dawp.inpaint(speech, gaps="0.5:0.002", data_range=r, **TINY) for r in (None, 1.0))
    span = (speech.max() - speech.min()).item()
    for name in ("gap_psnr", "psnr"):
        difference = wide.input[name] - narrow.input[name]
        assert difference == pytest.approx(20 * math.log10(span), abs=1e-3)
