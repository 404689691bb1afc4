"""Forward models."""

import pytest
import scipy.signal
import torch
from torch import Tensor
from torch.nn import functional as F

from dawp.methods.deep_prior.fit import Fit
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.methods.deep_prior.settings import FitConfig
from dawp.operators.base import Operator
from dawp.operators.clipping import Clipping
from dawp.operators.convolution import Convolution, fft_size
from dawp.operators.identity import Identity
from dawp.operators.mask import Mask
from dawp.problem import Problem
from dawp.randomness import seeded

LENGTHS = [64, 65, 1000]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_mask(length: int) -> Tensor:
    return noise(length, seed=9) > -0.5


def operators(length: int) -> dict[str, Operator]:
    return {
        "identity": Identity(),
        "mask": Mask(random_mask(length)),
        "convolution": Convolution(noise(33, seed=8).double(), 7),
        "long response": Convolution(noise(500, seed=8).double(), 499),
        "gain": Convolution(torch.tensor([2.0], dtype=torch.float64)),
    }


@pytest.mark.parametrize("name", operators(64))
@pytest.mark.parametrize("length", LENGTHS)
def test_the_gradient_of_an_operator_is_its_adjoint(name, length):
    """``<A x, u> = <x, A' u>``, where autograd gives A' u."""
    operator = operators(length)[name]
    x = noise(operator.input_length(length), seed=1, dtype=torch.float64).requires_grad_()
    u = noise(length, seed=2, dtype=torch.float64)
    prediction = operator(x)
    assert prediction.shape == operator.crop(x).shape == u.shape
    (adjoint,) = torch.autograd.grad(prediction @ u, x)
    torch.testing.assert_close(prediction @ u, x @ adjoint)
    other = noise(len(x), seed=3, dtype=torch.float64)  # not the point where the gradient was computed
    torch.testing.assert_close(operator(other) @ u, other @ adjoint)


@pytest.mark.parametrize("criterion", [F.l1_loss, F.mse_loss])
def test_the_distance_of_identity_and_mask_is_the_mean_over_known_samples(criterion):
    prediction, observed, mask = noise(1000), noise(1000, seed=1), random_mask(1000)
    plain = criterion(prediction, observed)
    assert torch.equal(Identity().distance(prediction, observed, criterion), plain)
    weight = mask / mask.sum()
    weighted = (weight * criterion(prediction, observed, reduction="none")).sum()
    assert torch.equal(Mask(mask).distance(prediction, observed, criterion, weight), weighted)
    torch.testing.assert_close(weighted, criterion(prediction[mask], observed[mask]))


def test_missing_samples_are_zero_in_the_prediction():
    x, mask = noise(1000), random_mask(1000)
    assert torch.equal(Mask(mask)(x)[mask], x[mask])
    assert not Mask(mask)(x)[~mask].any()
    problem = Problem(x, None, 16000, Mask(mask))
    assert torch.equal(problem.mask, mask)
    assert sum(stop - start for start, stop in problem.gaps) == (~mask).sum()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("taps", "delay"), [(1, 0), (33, 0), (33, 7), (33, 32), (500, 100)])
def test_convolution_is_that_of_scipy(length, taps, delay):
    operator = Convolution(noise(taps, dtype=torch.float64), delay)
    x = noise(operator.input_length(length), seed=1, dtype=torch.float64)
    expected = scipy.signal.fftconvolve(x.numpy(), operator.response.numpy(), mode="valid")
    torch.testing.assert_close(operator(x), torch.from_numpy(expected))
    # The direct path of a pure delay leaves the samples in place.
    pure = Convolution(F.one_hot(torch.tensor(delay), taps).double(), delay)
    torch.testing.assert_close(pure(x), pure.crop(x))


def test_the_distance_of_a_convolution_is_in_the_units_of_the_signal():
    """A room with a large gain at low frequencies: the distance weighs the frequencies as the signal does."""
    response = torch.rand(400, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -2, 400)
    operator = Convolution(response, 0)
    x = noise(operator.input_length(4000))
    low = 0.1 * torch.sin(torch.arange(len(x)) / 200)
    high = 0.1 * torch.sin(torch.arange(len(x)) * 2.0)
    y = operator(x)
    plain = [F.mse_loss(operator(x + error), y) for error in (low, high)]
    equalised = [operator.distance(operator(x + error), y, F.mse_loss) for error in (low, high)]
    assert plain[0] > 100 * plain[1]
    assert 0.3 < equalised[0] / equalised[1] < 3
    assert operator.rough_inverse(y).norm() / operator.crop(x).norm() == pytest.approx(1, abs=0.2)


def test_the_weight_of_a_convolution_applies_after_the_equalisation():
    operator = Convolution(noise(33, seed=8), 7)
    prediction, observed, mask = noise(1000), noise(1000, seed=1), random_mask(1000)
    distance = operator.distance(prediction, observed, F.l1_loss, mask / mask.sum())
    expected = F.l1_loss(operator.rough_inverse(prediction)[mask], operator.rough_inverse(observed)[mask])
    torch.testing.assert_close(distance, expected)


@pytest.mark.parametrize(("place", "delay"), [(0, 0), (4, 4), (0, 4), (4, 0), (2, 3)])
@pytest.mark.parametrize("length", [60, 64, 91])  # with the response of 5 samples: also a size of the FFT itself
def test_the_rough_inverse_of_an_impulse_is_a_shift(place, delay, length):
    """For ``A(x)[t] = g x[t + d - k]``, the rough inverse is ``y[t + k - d] / (1.01 g)``, zero outside the clip."""
    operator = Convolution(2.0 * F.one_hot(torch.tensor(place), 5).double(), delay)
    y = noise(length, dtype=torch.float64)
    padded = F.pad(y, (5, 5))
    expected = padded[5 + place - delay : 5 + place - delay + length] / (1.01 * 2.0)
    torch.testing.assert_close(operator.rough_inverse(y), expected)


@pytest.mark.parametrize("name", ["mask", "convolution"])
def test_an_operator_is_copied_to_a_device(name):
    operator = operators(64)[name]
    moved = operator.to(torch.device("meta"))
    tensors, originals = (
        [value for value in vars(one).values() if isinstance(value, Tensor)] for one in (moved, operator)
    )
    assert type(moved) is type(operator)
    assert [tensor.device.type for tensor in tensors] == ["meta"]
    assert [tensor.device.type for tensor in originals] == ["cpu"]


def test_the_digest_depends_on_the_class_and_all_attributes():
    response = noise(33)
    different = [
        Identity(),
        Mask(random_mask(64)),
        Mask(~random_mask(64)),
        Convolution(response, 7),
        Convolution(response, 8),
        Convolution(2 * response, 7),
        Clipping(random_mask(64), ~random_mask(64)),
        Clipping(~random_mask(64), random_mask(64)),
    ]
    assert len({operator.digest() for operator in different}) == len(different)
    assert Convolution(response, 7).digest() == Convolution(response.clone(), 7).digest()


def test_an_operator_has_no_gaps_and_leaves_an_estimate_as_it_is_by_default():
    x, y = noise(64), noise(64, seed=1)
    for operator in (Identity(), Convolution(noise(33), 7)):
        assert operator.known is None
        assert torch.equal(operator.project(x, y), x)
    assert torch.equal(Identity().rough_inverse(y), y)


@pytest.mark.parametrize("delay", [-1, 5])
def test_a_delay_outside_the_response_is_refused(delay):
    with pytest.raises(ValueError, match="delay"):
        Convolution(torch.ones(5), delay)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 12345])
def test_sizes_for_the_fft(length):
    size = fft_size(length)
    assert fft_size(size) == size
    assert length <= size < 1.34 * length
    odd = size // (size & -size)
    assert odd in (1, 3, 5, 9, 15)


class Late(Operator):
    """An operator from outside the package: the sum of the signal and its half, two samples later."""

    def __init__(self, gain: Tensor) -> None:
        self.gain = gain

    def __call__(self, x: Tensor) -> Tensor:
        return x[2:] + self.gain * x[:-2]

    def input_length(self, length: int) -> int:
        return length + 2

    def crop(self, x: Tensor) -> Tensor:
        return x[2:]


def test_an_operator_from_outside_the_package_is_fitted():
    clean = noise(502).cumsum(0) / 20
    operator = Late(torch.tensor(0.5))
    problem = Problem(operator(clean), None, 16000, operator).to(torch.device("cpu"))
    generator = build(GeneratorConfig(depth=1, channels=16, lstm_layers=0, resample=False), seeded(0, "weights"))
    steps = list(Fit(problem, generator, FitConfig(epochs=300, lr=0.01, crit="L2"), seeded(0, "input")))
    for step in steps:
        assert step.output.shape == step.prediction.shape == problem.observed.shape
        torch.testing.assert_close(step.loss, F.mse_loss(step.prediction, problem.observed))
    torch.testing.assert_close(steps[0].prediction[2:], steps[0].output[2:] + 0.5 * steps[0].output[:-2])
    assert steps[-1].loss < 0.1 * steps[0].loss
    assert F.mse_loss(steps[-1].output, clean[2:]) < 0.3 * F.mse_loss(problem.observed, clean[2:])
