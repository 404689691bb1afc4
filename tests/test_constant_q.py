"""The constant-Q transform: inversion, energy, bands and gradients."""

import cmath
import math

import pytest
import torch
from conftest import refused_as

from dawp.dsp.constant_q import TUNING, ConstantQ

SHAPES = [(8000, 6, 12), (16000, 7, 12), (44100, 8, 24), (1000, 5, 3)]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("length", [1, 64, 65, 511, 512, 1023, 4097, 8191])
def test_every_length_is_reconstructed(shape, length):
    transform, x = ConstantQ(*shape), noise(2, length)
    coefficients = transform.analyse(x)
    torch.testing.assert_close(transform.synthesise(coefficients, length), x, rtol=0, atol=1e-5)
    for grid, hop in zip(coefficients, transform.hops, strict=True):
        assert grid.shape == (2, shape[2], transform.padded(length) // hop)


@pytest.mark.parametrize("shape", SHAPES)
def test_energy_is_kept(shape):
    transform = ConstantQ(*shape)
    x = noise(transform.padded(6000))
    spectrum = torch.fft.rfft(x)
    spectrum[[0, -1]] = 0
    x = torch.fft.irfft(spectrum)
    energy = sum(float(grid.abs().square().sum()) for grid in transform.analyse(x))
    assert energy == pytest.approx(float(x.square().sum()) / 2, rel=1e-4)


def test_coefficients_equal_the_direct_sum():
    """Evaluate the definition for some coefficients of each grid."""
    rate, octaves, bands, length = 2000, 4, 5, 300
    transform, x = ConstantQ(rate, octaves, bands), noise(length)
    size = transform.padded(length)
    spectrum = [
        sum(float(x[t]) * cmath.exp(-2j * math.pi * n * t / size) for t in range(length)) / math.sqrt(size)
        for n in range(size // 2 + 1)
    ]
    low = transform.low
    centres = [low * k / bands for k in range(bands)] + [low * 2 ** (k / bands) for k in range(octaves * bands)]

    def slope(position):
        return math.sin(math.pi / 2 * math.sin(math.pi / 2 * position) ** 2)

    def window(k, frequency):
        below = centres[k - 1] if k else -centres[1]
        if below < frequency <= centres[k]:
            return slope((frequency - below) / (centres[k] - below))
        if k + 1 == len(centres):
            return float(frequency > centres[k])
        if centres[k] < frequency < centres[k + 1]:
            return slope((centres[k + 1] - frequency) / (centres[k + 1] - centres[k]))
        return 0.0

    for number, (grid, hop) in enumerate(zip(transform.analyse(x), transform.hops, strict=True)):
        frames = size // hop
        for band, frame in ((0, 0), (bands - 1, frames - 1), (2, frames // 2)):
            k = bands * (octaves - number) + band
            nearest = round(centres[k] * size / rate)
            expected = sum(
                spectrum[n] * window(k, n * rate / size) * cmath.exp(2j * math.pi * (n - nearest) * frame * hop / size)
                for n in range(size // 2 + 1)
            ) / math.sqrt(frames)
            assert complex(grid[band, frame]) == pytest.approx(expected, abs=1e-5)


def test_a_tone_lies_in_its_band():
    """A tone at the centre of a band is nearly constant there, and a tone an octave higher has the same row."""
    rate = 8000
    transform = ConstantQ(rate, 6, 12)
    time = torch.arange(rate) / rate
    rows = []
    for frequency in (TUNING, 2 * TUNING):
        grids = transform.analyse(torch.sin(2 * math.pi * frequency * time) * torch.hann_window(rate))
        energies = torch.stack([grid.abs().square().sum(dim=-1) for grid in grids])
        largest = int(energies.argmax())
        assert energies.flatten()[largest] > 0.95 * energies.sum()
        rows.append(divmod(largest, 12))
        middle = grids[rows[-1][0]][rows[-1][1]]
        middle = middle[len(middle) * 3 // 8 : len(middle) * 5 // 8]
        assert (middle / middle[len(middle) // 2]).angle().abs().max() < 0.5
    assert rows[0][1] == rows[1][1]
    assert rows[0][0] == rows[1][0] + 1


def test_gradients_are_those_of_the_sum():
    transform = ConstantQ(2000, 4, 5)
    x = noise(200).requires_grad_()
    weights = [noise(*grid.shape, seed=1) for grid in transform.analyse(x)]

    def total(signal):
        return sum((weight * grid.real).sum() for weight, grid in zip(weights, transform.analyse(signal), strict=True))

    (gradient,) = torch.autograd.grad(total(x), x)
    direction = noise(200, seed=2)
    torch.testing.assert_close(total(direction), gradient @ direction, rtol=1e-4, atol=1e-4)


def test_too_many_octaves_are_refused():
    with refused_as("invalid_setting", "octaves"):
        ConstantQ(8000, 9, 12)
