"""The diffusion model: preconditioning, network, and the sampler on Gaussian signals, whose denoiser is known."""

import dataclasses
import json
import math

import pytest
import torch
from conftest import refused_as, write_sound

import dawp
from dawp.cli import main
from dawp.dsp import spectral
from dawp.methods.trained.diffusion import edm
from dawp.methods.trained.diffusion.method import restore
from dawp.methods.trained.diffusion.network import OctaveUNet
from dawp.methods.trained.diffusion.noise import noise_gain, recorded_distance, spectral_distance
from dawp.methods.trained.diffusion.sampler import distance_of, levels, sample
from dawp.methods.trained.diffusion.settings import DiffusionConfig, DiffusionModelConfig
from dawp.methods.trained.weights import load_model, save_model
from dawp.operators.convolution import Convolution
from dawp.operators.mask import Mask
from dawp.problem import Problem
from dawp.training import command

RATE, MODEL_RATE = 2000, 8000
LENGTH = 24


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(**settings):
    torch.manual_seed(0)
    model = OctaveUNet(RATE, octaves=4, bands=6, width=4, **settings)
    for parameter in model.parameters():  # the last convolutions are zero
        torch.nn.init.normal_(parameter, std=0.1)
    return model


class Gaussian:
    """Signals with the covariance ``0.9^|i - j|``, and their denoiser ``C (C + s^2)^-1 x``."""

    def __init__(self):
        place = torch.arange(LENGTH, dtype=torch.float64)
        self.covariance = 0.9 ** (place[:, None] - place).abs()
        self.values, self.vectors = torch.linalg.eigh(self.covariance)

    def __call__(self, x, sigma):
        gains = self.values / (self.values + sigma[:, None].square())
        return (x @ self.vectors * gains) @ self.vectors.T

    @staticmethod
    def white(x, sigma):
        """The denoiser of white signals with unit variance."""
        return x / (1 + sigma[:, None].square())

    def draw(self, count, rng):
        return torch.randn(count, LENGTH, generator=rng, dtype=torch.float64) @ torch.linalg.cholesky(self.covariance).T

    def conditional(self, observed, known):
        """Mean and covariance of the samples that are not known."""
        gain = self.covariance[~known][:, known] @ torch.linalg.inv(self.covariance[known][:, known])
        return gain @ observed[known], self.covariance[~known][:, ~known] - gain @ self.covariance[known][:, ~known]


def test_the_preconditioning_has_unit_variances():
    """c_in x and the target of the network have a variance of 1 at every noise level, and c_out is the least one."""
    sigma, data = torch.tensor([1e-3, 0.1, 1.0, 20.0], dtype=torch.float64), 0.5
    c = edm.coefficients(sigma, data)
    one = torch.ones_like(sigma)
    torch.testing.assert_close(c.in_.square() * (data**2 + sigma.square()), one)
    target = ((1 - c.skip).square() * data**2 + c.skip.square() * sigma.square()) / c.out.square()
    torch.testing.assert_close(target, one)
    for skip in (0.9 * c.skip, 1.1 * c.skip):
        assert ((1 - skip).square() * data**2 + skip.square() * sigma.square() > c.out.square()).all()


def test_a_network_without_output_scales_the_input():
    denoiser = edm.PreconditionedDenoiser(OctaveUNet(RATE, octaves=4, bands=6, width=4))
    x, sigma = torch.randn(3, 100, generator=seeded()), torch.tensor([0.01, 1.0, 5.0])
    torch.testing.assert_close(denoiser(x, sigma), edm.coefficients(sigma).skip[:, None] * x)


def test_the_loss_of_a_network_without_output_is_one():
    """The target of the network has unit variance, so that the loss of zeros is 1."""
    denoiser = edm.PreconditionedDenoiser(OctaveUNet(RATE, octaves=4, bands=6, width=4))
    clean = torch.randn(500, 64, generator=seeded())
    with torch.no_grad():
        loss = edm.training_loss(denoiser, clean, seeded(1))
    assert float(loss) == pytest.approx(1, abs=0.05)


def test_the_noise_levels_are_log_normal():
    levels = edm.draw_levels(20000, seeded()).log()
    assert float(levels.mean()) == pytest.approx(edm.NOISE_MEAN, abs=0.05)
    assert float(levels.std()) == pytest.approx(edm.NOISE_SPREAD, abs=0.05)


@pytest.mark.parametrize("length", [1, 64, 65, 500, 1025])
def test_the_network_keeps_the_length_and_does_not_mix_clips(length):
    model, x = network(blocks=2), torch.randn(2, length, generator=seeded())
    noise = torch.tensor([-0.5, 0.2])
    together = model(x, noise)
    assert together.shape == x.shape
    for one in (0, 1):
        torch.testing.assert_close(model(x[one : one + 1], noise[one : one + 1])[0], together[one])
    assert not torch.allclose(together[0], model(x[:1], noise[1:])[0])


def test_the_network_has_gradients_in_all_weights():
    model = network()
    model(torch.randn(2, 300, generator=seeded()), torch.tensor([-0.5, 0.2])).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_the_denoiser_learns():
    """Sines of one frequency are easier to denoise than white noise."""
    torch.manual_seed(0)
    denoiser, rng = edm.PreconditionedDenoiser(OctaveUNet(RATE, octaves=4, bands=6, width=8)), seeded()
    optimizer = torch.optim.Adam(denoiser.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        phases = 2 * math.pi * torch.rand(8, 1, generator=rng)
        loss = edm.training_loss(
            denoiser, math.sqrt(2) * torch.sin(2 * math.pi * 220 / RATE * torch.arange(256) + phases), rng
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_the_noise_levels_fall_from_the_first_to_zero():
    found = levels(DiffusionConfig(sampling_steps=10, sigma_min=0.01, sigma_max=5))
    assert len(found) == 11
    assert found[0] == pytest.approx(5)
    assert found[-2:] == [pytest.approx(0.01), 0]
    roots = torch.tensor(found[:-1]) ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(9))
    assert levels(DiffusionConfig(sampling_steps=1, sigma_max=4)) == [pytest.approx(4), 0]


@pytest.mark.parametrize("churn", [0.0, 10.0])
def test_samples_have_the_covariance_of_the_prior(churn):
    prior, count = Gaussian(), 4000
    config = DiffusionConfig(sampling_steps=30, sigma_max=20, churn=churn)
    drawn = sample(prior, torch.zeros(count, LENGTH, dtype=torch.float64), config, seeded())
    assert float(drawn.mean(dim=0).abs().max()) < 0.08
    assert float((drawn.T @ drawn / count - prior.covariance).abs().max()) < 0.1


@pytest.mark.parametrize("seed", [0, 1])
def test_samples_of_a_gap_have_the_conditional_mean_and_deviation(seed):
    """The gradient of the observation is scaled by a rule, so that the posterior is only approximated."""
    prior, known = Gaussian(), torch.ones(LENGTH, dtype=torch.bool)
    known[10:14] = False
    clean = prior.draw(1, seeded(seed))[0]
    observed = torch.where(known, clean, 0)
    mean, covariance = prior.conditional(observed, known)
    config = DiffusionConfig(sampling_steps=50, sigma_max=20, churn=15, xi=1)
    start = torch.zeros(400, LENGTH, dtype=torch.float64)
    drawn = sample(prior, start, config, seeded(2), lambda x: (x - observed)[:, known].square().sum())
    assert float((drawn[:, known] - observed[known]).abs().max()) < 0.02
    deviation = covariance.diagonal().sqrt()
    assert float(((drawn[:, ~known].mean(dim=0) - mean) / deviation).abs().max()) < 0.4
    assert float((drawn[:, ~known].std(dim=0) / deviation - 1).abs().max()) < 0.2


def test_the_distance_is_that_of_the_known_samples():
    known = torch.arange(LENGTH) % 3 > 0
    observed, expected = torch.randn(4, LENGTH, generator=seeded())[0], torch.randn(3, LENGTH, generator=seeded(1))
    errors = (expected - observed)[:, known].square().mean(dim=1)
    torch.testing.assert_close(distance_of(Mask(known), torch.where(known, observed, 0))(expected), errors.sum())


def test_the_seed_determines_the_samples():
    prior, start = Gaussian(), torch.zeros(2, LENGTH, dtype=torch.float64)
    drawn = [sample(prior, start, DiffusionConfig(sampling_steps=5), seeded(seed)) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2], atol=0.1)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A model at 8000 Hz after two steps of training on noise."""
    folder = tmp_path_factory.mktemp("diffusion")
    for number in range(2):
        write_sound(folder / f"{number}.wav", 0.1 * torch.randn(2 * MODEL_RATE, generator=seeded(number)), MODEL_RATE)
    flags = ("--samplerate", MODEL_RATE, "--steps", 2, "--window", 2048, "--batch", 2, "--width", 4, "--average", 0.5)
    more = ("--test_clips", 1, "--test_seconds", 0.2, "--device", "cpu", "--quiet")
    arguments = ["diffusion", "--data", folder, *flags, *more, "-o", folder / "model.pt"]
    assert command.main([str(argument) for argument in arguments]) == 0
    return folder / "model.pt"


def test_the_training_writes_a_model_of_clean_clips(model_file):
    model = load_model(model_file)
    assert (model.kind, model.task, model.rate) == ("diffusion", None, MODEL_RATE)
    assert model.settings == {**vars(DiffusionModelConfig()), "width": 4}
    card = json.loads(model_file.with_name("model_card.json").read_text())
    assert all(math.isfinite(card["metrics"][f"held_out_loss_at_{level}"]) for level in ("0.01", "0.1", "1", "10"))


def test_a_model_of_another_rate_is_refused_before_decoding(model_file, tmp_path, monkeypatch, capsys):
    def scan(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("dawp.restoration.file_restoration.scan", scan)
    path = write_sound(tmp_path / "a.wav", rate=2 * MODEL_RATE)
    flags = [path, "--restore", "--method", "diffusion", "--weights", model_file, "-o", tmp_path / "b.wav", "--quiet"]
    assert main("declip", [str(flag) for flag in flags]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"weights must be a model at {2 * MODEL_RATE} Hz, got one at {MODEL_RATE} Hz" in err


@pytest.mark.parametrize("task", ["inpaint", "declip", "bandwidth", "declick"])
def test_the_method_restores_each_task(task, model_file):
    """The observed samples stay as they are, and the seed determines the others."""
    time = torch.arange(2003) / MODEL_RATE
    clean = 0.3 * torch.sin(2 * math.pi * 440 * time) + 0.05 * torch.sin(2 * math.pi * 3000 * time)
    observed, settings = clean.clone(), {}
    if task == "inpaint":
        observed[900:1000] = torch.nan
    elif task == "declip":
        observed = clean.clamp(-0.2, 0.2)
    elif task == "declick":
        observed[900:903] += torch.tensor([0.5, -0.6, 0.4])
    else:
        settings = {"cutoff": 2000.0}
        observed = clean - 0.05 * torch.sin(2 * math.pi * 3000 * time)
    settings |= {"method": "diffusion", "weights": model_file, "sampling_steps": 3, "device": "cpu"}
    first, again, other = (dawp.restore(observed, MODEL_RATE, task=task, seed=seed, **settings) for seed in (0, 0, 1))
    assert first.shape == observed.shape
    assert torch.equal(first, again)
    changed = (first != observed) | observed.isnan()
    assert changed.any()
    assert not torch.equal(first, other)
    if task == "bandwidth":
        kept = torch.fft.rfft(first - observed)[: int(0.24 * len(clean))].abs().square().sum()
        assert kept < 1e-3 * torch.fft.rfft(first - observed).abs().square().sum()
    else:
        assert changed.float().mean() < {"inpaint": 0.1, "declip": 0.6, "declick": 0.05}[task]


def test_noise_is_removed_down_to_its_power():
    """White noise at 0 dB on two tones, with a prior that is flat up to 600 Hz and nearly 0 above.

    15 % of the noise lies below 600 Hz; a draw from the posterior has twice the error of its mean.
    """
    rate, time = MODEL_RATE, torch.arange(2 * MODEL_RATE) / MODEL_RATE
    clean = sum(torch.sin(2 * math.pi * f * time + f) for f in (300.0, 500.0))
    clean = clean * torch.sin(math.pi * time) ** 2

    def denoiser(x, sigma):
        spectrum = torch.fft.rfft(x)
        gains = torch.where(torch.fft.rfftfreq(x.shape[-1], 1 / rate) < 600, 5.0, 1e-4)
        return torch.fft.irfft(gains / (gains + sigma[:, None].square()) * spectrum, n=x.shape[-1])

    noise = clean.std() * torch.randn(len(clean), generator=seeded())
    problem = Problem(clean + noise, None, rate)
    estimate = restore(problem, denoiser, DiffusionConfig(sampling_steps=25, sigma_max=1), seeded(1))
    assert float((estimate - clean).square().sum()) < 0.3 * float(noise.square().sum())


def test_the_distance_of_a_noisy_clip_counts_what_exceeds_the_noise():
    clean = torch.sin(0.3 * torch.arange(4000))
    noise = 0.1 * torch.randn(4000, generator=seeded())
    power = torch.from_numpy(spectral.analyse(noise, MODEL_RATE)).abs().square().mean()
    bins, frames = spectral.analyse(noise, MODEL_RATE).shape
    problem = Problem(clean + noise, None, MODEL_RATE, noise=power.expand(bins, frames))
    distance = spectral_distance(problem, 2.0)
    of_clean, of_noisy, of_zero = (float(distance(x[None] / 2)) for x in (clean, clean + noise, 0 * clean))
    assert of_noisy == 0
    assert of_clean < 0.1
    assert of_zero > 1


def test_the_gain_of_the_noise_is_that_of_the_quietest_window():
    noise = torch.randn(4, 1000, generator=seeded())
    observed = torch.cat([torch.ones(500), 0.25 * torch.ones(100), -torch.ones(450)])
    assert noise_gain(observed, 2 * noise, 100) == pytest.approx(0.125, rel=0.1)
    assert noise_gain(observed, 2 * noise, 10**6) == pytest.approx(float(observed.square().mean().sqrt()) / 2, rel=0.1)


def test_recordings_of_the_noise_are_subtracted(tmp_path):
    """A recording of a constant has no randomness, and the distance is exact."""
    write_sound(tmp_path / "noise.wav", 0.5 * torch.ones(3 * MODEL_RATE), MODEL_RATE, subtype="FLOAT")
    clean = 0.1 * torch.randn(1000, generator=seeded())
    problem = Problem(clean + 0.25, None, MODEL_RATE)
    config = DiffusionConfig(noise_recordings=tmp_path, noise_recordings_gain=0.5)
    distance = recorded_distance(problem, 0.1, config.noise_recordings, config, seeded())
    assert float(distance(clean[None] / 0.1)) < 1e-9
    assert float(distance(problem.observed[None] / 0.1)) == pytest.approx(6.25, rel=1e-3)


def test_the_mean_of_several_draws_is_nearer_to_the_signal():
    known = torch.arange(400) % 8 > 1
    clean = torch.randn(400, generator=seeded())
    problem = Problem(torch.where(known, clean, 0), None, RATE, Mask(known))
    one, several = (
        restore(problem, Gaussian.white, DiffusionConfig(sampling_steps=10, draws=draws), seeded()) for draws in (1, 8)
    )
    errors = [float((estimate - clean)[~known].square().mean()) for estimate in (one, several)]
    assert errors[1] < 0.75 * errors[0]


def test_a_known_room_is_inverted_under_the_model(model_file):
    """With an observation that the sampler fits, the estimate has the reverberant clip as its observation."""
    response = torch.zeros(200, dtype=torch.float64)
    response[[10, 60, 150]] = torch.tensor([1.0, 0.5, -0.3], dtype=torch.float64)
    operator = Convolution(response.float(), 10)
    clean = torch.randn(1000 + len(response) - 1, generator=seeded())
    problem = Problem(operator(clean), None, MODEL_RATE, operator)
    estimate = restore(problem, Gaussian.white, DiffusionConfig(sampling_steps=30), seeded())
    assert estimate.shape == problem.observed.shape
    assert float((estimate - operator.crop(clean)).square().mean()) < 0.3


def test_a_model_of_another_rate_or_kind_is_refused(model_file, tmp_path):
    noise = torch.randn(2000, generator=seeded())
    settings = {"task": "inpaint", "method": "diffusion", "device": "cpu", "sampling_steps": 1}
    gap = torch.where(torch.arange(2000) // 100 == 5, torch.nan, noise)
    with refused_as("invalid_setting", "weights .* 16000 Hz"):
        dawp.restore(gap, 16000, weights=model_file, **settings)
    with refused_as("invalid_setting", "weights"):
        dawp.restore(gap, MODEL_RATE, **settings)
    model = load_model(model_file)
    save_model(tmp_path / "other.pt", dataclasses.replace(model, kind="unet"))
    with refused_as("invalid_setting", "weights .* diffusion"):
        dawp.restore(gap, MODEL_RATE, weights=tmp_path / "other.pt", **settings)
    save_model(tmp_path / "wide.pt", dataclasses.replace(model, settings={**model.settings, "width": 10**6}))
    with refused_as("unreadable_input", "weights"):
        dawp.restore(gap, MODEL_RATE, weights=tmp_path / "wide.pt", **settings)


def test_the_last_noise_level_is_below_the_first():
    with refused_as("invalid_setting", "sigma_min"):
        DiffusionConfig(sigma_min=0.5, sigma_max=0.5)
