"""The diffusion model: preconditioning, network, and the sampler on Gaussian signals, whose denoiser is known."""

import math

import pytest
import torch

from dawp.methods.trained.diffusion import edm
from dawp.methods.trained.diffusion.network import OctaveUNet
from dawp.methods.trained.diffusion.sampler import Schedule, distance_of, sample
from dawp.operators.mask import Mask

RATE = 2000
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


def test_the_schedule_falls_from_the_first_level_to_zero():
    levels = Schedule(steps=10, sigma_min=0.01, sigma_max=5, rho=3).levels()
    assert len(levels) == 11
    assert levels[0] == pytest.approx(5)
    assert levels[-2:] == [pytest.approx(0.01), 0]
    roots = torch.tensor(levels[:-1]) ** (1 / 3)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(9))
    assert Schedule(steps=1).levels() == [pytest.approx(Schedule.sigma_max), 0]


@pytest.mark.parametrize("churn", [0.0, 10.0])
def test_samples_have_the_covariance_of_the_prior(churn):
    prior, count = Gaussian(), 4000
    schedule = Schedule(steps=30, sigma_max=20, churn=churn)
    drawn = sample(prior, torch.zeros(count, LENGTH, dtype=torch.float64), schedule, seeded())
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
    schedule = Schedule(steps=50, sigma_max=20, churn=15, xi=1)
    start = torch.zeros(400, LENGTH, dtype=torch.float64)
    drawn = sample(prior, start, schedule, seeded(2), lambda x: (x - observed)[:, known].square().sum())
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
    drawn = [sample(prior, start, Schedule(steps=5), seeded(seed)) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2], atol=0.1)
