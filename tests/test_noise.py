import math

import pytest
import torch
from conftest import refused_as, write_sound

from dawp.io.audio import level_dbfs
from dawp.randomness import seeded
from dawp.tasks.denoise import NoiseConfig, add_noise


def mix(clean, seed=0, **settings):
    return add_noise(clean, 16000, NoiseConfig(**settings), seeded(seed, "corruption"))


def snr_db(problem):
    noise = problem.observed - problem.clean
    return 10 * math.log10(problem.clean.double().square().sum() / noise.double().square().sum())


@pytest.mark.parametrize("noise_class", ["GAUSSIAN", "UNIFORM"])
@pytest.mark.parametrize("snr", [-20.0, 0.0, 2.5, 10.0, 60.0])
def test_the_snr_is_the_requested_one(speech, noise_class, snr):
    problem = mix(speech, noise_class=noise_class, snr=snr)
    assert snr_db(problem) == pytest.approx(snr, abs=0.01)
    assert problem.facts["snr_db"] == pytest.approx(snr, abs=0.01)


def test_the_snr_does_not_depend_on_the_level(speech):
    for scale in (1e-4, 50.0):
        assert snr_db(mix(speech * scale, snr=2.5)) == pytest.approx(2.5, abs=0.01)


def test_the_level_is_drawn_between_minus_35_and_minus_15():
    tone = torch.sin(torch.arange(8000) / 5)  # a low crest factor, so that nothing clips
    levels = [level_dbfs(mix(tone, seed=seed, snr=30.0).observed) for seed in range(60)]
    assert -35.01 < min(levels) < -31
    assert -19 < max(levels) < -14.99


def test_a_fixed_level(speech):
    problem = mix(speech, level_dbfs=-28.0)
    assert level_dbfs(problem.observed) == pytest.approx(-28.0, abs=0.01)
    assert problem.facts["level_dbfs"] == pytest.approx(-28.0, abs=0.01)


def test_nothing_clips_and_the_snr_is_kept(speech):
    problem = mix(speech, level_dbfs=0.0)
    assert problem.observed.abs().max().item() == pytest.approx(0.99, abs=1e-4)
    assert snr_db(problem) == pytest.approx(2.5, abs=0.01)


def test_gaussian_and_uniform_noise_have_their_distributions(speech):
    """The kurtosis is 3 for a Gaussian and 1.8 for a uniform distribution."""
    for noise_class, kurtosis in (("GAUSSIAN", 3.0), ("UNIFORM", 1.8)):
        problem = mix(speech, noise_class=noise_class)
        noise = (problem.observed - problem.clean).double()
        assert noise.pow(4).mean() / noise.square().mean() ** 2 == pytest.approx(kurtosis, abs=0.15)


def test_noise_std_has_no_effect_when_the_snr_sets_the_level(speech):
    first, second = mix(speech, noise_std=0.1), mix(speech, noise_std=0.2)
    torch.testing.assert_close(first.observed, second.observed)


@pytest.mark.parametrize("noise_class", ["GAUSSIAN", "UNIFORM"])
def test_without_snr_noise_std_is_the_standard_deviation_and_the_clip_is_unchanged(speech, noise_class):
    problem = mix(speech, noise_class=noise_class, snr=None, noise_std=0.07)
    assert torch.equal(problem.clean, speech)
    assert (problem.observed - problem.clean).std().item() == pytest.approx(0.07, rel=1e-3)


def test_same_seed_same_noise(speech):
    assert torch.equal(mix(speech, seed=3).observed, mix(speech, seed=3).observed)
    assert not torch.equal(mix(speech, seed=3).observed, mix(speech, seed=4).observed)


def scale_to(noise, like):
    return noise * (like.norm() / noise.norm())


def test_real_noise_is_a_segment_of_the_file(speech, tmp_path):
    long = torch.randn(3 * 16000, generator=torch.Generator().manual_seed(5)) * 0.1
    path = write_sound(tmp_path / "noise.wav", long, subtype="FLOAT")
    problem = mix(speech, noise_source=path)
    noise = problem.observed - problem.clean
    correlation = torch.nn.functional.conv1d(long[None, None], noise[None, None])[0, 0]
    start = int(correlation.argmax())
    torch.testing.assert_close(noise, scale_to(long[start : start + len(noise)], noise), atol=1e-5, rtol=1e-3)
    assert start > 0
    assert snr_db(problem) == pytest.approx(2.5, abs=0.01)


def test_short_real_noise_is_looped(speech, tmp_path):
    path = write_sound(tmp_path / "short.wav", torch.randn(1600) * 0.1, subtype="FLOAT")
    problem = mix(speech, noise_source=path)
    noise = problem.observed - problem.clean
    torch.testing.assert_close(noise[:-1600], noise[1600:], atol=1e-6, rtol=1e-4)


def test_real_noise_from_a_folder_uses_all_its_files(speech, tmp_path):
    for name in ("a.wav", "deep/b.flac"):
        write_sound(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no sound")
    used = {mix(speech, seed=seed, noise_source=tmp_path).facts["noise"] for seed in range(12)}
    assert used == {str(tmp_path / "a.wav"), str(tmp_path / "deep" / "b.flac")}


def test_bad_noise_sources(speech, tmp_path):
    with refused_as("not_found", r"noise_source must .* got .*none\.wav"):
        mix(speech, noise_source=tmp_path / "none.wav")
    silent = write_sound(tmp_path / "silent.wav", torch.zeros(20000))
    with refused_as("unusable_recording", "noise_source"):
        mix(speech, noise_source=silent)
    with refused_as("unusable_recording", "clean clip"):
        mix(torch.zeros(16000))
