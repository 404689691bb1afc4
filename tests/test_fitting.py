import math
import shutil

import pytest
import torch
from conftest import TINY, refused_as

import dawp
from dawp.devices import pick_device
from dawp.errors import BadInput, FitDiverged
from dawp.methods.deep_prior.estimates.running_mean import Estimates
from dawp.methods.deep_prior.fit import Adam, Fit, input_noise
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.methods.deep_prior.settings import FitConfig
from dawp.methods.deep_prior.stopping.holdout import HoldoutStop, hold_out
from dawp.methods.deep_prior.stopping.oracle import OracleStop
from dawp.methods.deep_prior.stopping.wmv import VarianceStop
from dawp.metrics.settings import MetricConfig
from dawp.operators.identity import Identity
from dawp.operators.mask import Mask
from dawp.problem import Problem
from dawp.randomness import seeded

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


def problem_of(clean, mask=None, noise_seed=0):
    noise = torch.randn(len(clean), generator=torch.Generator().manual_seed(noise_seed)) * 0.1
    return Problem(clean + noise, clean, 16000, operator=Identity() if mask is None else Mask(mask))


def run(problem, epochs=4, seed=0, channels=4, **settings):
    network = GeneratorConfig(depth=1, channels=channels, lstm_layers=0, resample=False)
    generator = build(network, seeded(seed, "weights"))
    generator = generator.to(problem.observed.device)
    return list(Fit(problem, generator, FitConfig(epochs=epochs, **settings), seeded(seed, "input")))


def test_epochs_count_from_one_and_outputs_have_the_clips_length(speech, device):
    steps = run(problem_of(speech[:999]).to(device))
    assert [step.epoch for step in steps] == [1, 2, 3, 4]
    assert all(step.output.shape == (999,) and not step.output.requires_grad for step in steps)


def test_adam_agrees_with_torch(device):
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Linear(5, 3)).to(device) for _ in "ab")
    for net in (ours, theirs):
        net.unused = torch.nn.Parameter(torch.ones(3, device=device))
    theirs.load_state_dict(ours.state_dict())
    adam, reference = Adam(ours.parameters(), 0.01), torch.optim.Adam(theirs.parameters(), lr=0.01)
    for step in range(200):
        if step == 100:
            state, adam = adam.state(), Adam(ours.parameters(), 0.01)
            adam.resume(state)
        x = torch.randn(4, 7, device=device)
        for net, optimizer in ((ours, adam), (theirs, reference)):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("crit", "distance"), [("L1", torch.nn.L1Loss()), ("L2", torch.nn.MSELoss())])
def test_the_loss_is_the_distance_to_the_corrupted_clip(speech, crit, distance):
    problem = problem_of(speech[:999])
    for step in run(problem, crit=crit):
        torch.testing.assert_close(step.loss, distance(step.output, problem.observed))


def test_the_loss_decreases(speech, device):
    steps = run(problem_of(speech[:4000]).to(device), epochs=200, lr=0.01, channels=32)
    assert steps[-1].loss < 0.8 * steps[0].loss


def test_the_level_of_a_clip_only_scales_the_outputs(speech):
    problem = problem_of(speech[:999])
    faint = Problem(problem.observed / 64, problem.clean / 64, 16000)  # a power of two, to avoid rounding
    for crit in ("L1", "L2"):
        for one, two in zip(run(problem, crit=crit), run(faint, crit=crit), strict=True):
            torch.testing.assert_close(two.output * 64, one.output, rtol=1e-4, atol=1e-5)
    plain = [run(p, normalize=False)[-1].output for p in (problem, faint)]
    assert not torch.allclose(plain[1] * 64, plain[0], rtol=0.1, atol=1e-3)


def test_without_normalisation_the_network_output_is_the_estimate(speech):
    problem = problem_of(speech[:999])
    first, second = (build(GeneratorConfig(depth=1, channels=4, lstm_layers=0), seeded(0, "weights")) for _ in "ab")
    next(iter(Fit(problem, first, FitConfig(normalize=False), seeded(0, "input"))))
    assert first.gain == 1
    next(iter(Fit(problem, second, FitConfig(), seeded(0, "input"))))
    assert second.gain.item() == pytest.approx(problem.observed.square().mean().sqrt().item())


def test_weights_at_an_epoch_are_those_of_its_output(speech):
    problem = problem_of(speech[:999])
    generator = build(GeneratorConfig(depth=1, channels=4, lstm_layers=0), seeded(0, "weights"))
    for step in Fit(problem, generator, FitConfig(epochs=3, lr=0.01), seeded(0, "input")):
        assert torch.equal(generator(step.z, 999)[0, 0], step.output)


def test_the_fit_does_not_depend_on_the_clean_clip(speech):
    problem = problem_of(speech[:999])
    other = Problem(problem.observed, torch.rand(999), 16000)
    for one, two in zip(run(problem), run(other), strict=True):
        assert torch.equal(one.output, two.output)


def test_the_fit_does_not_depend_on_samples_outside_the_mask(speech):
    mask = torch.ones(999, dtype=torch.bool)
    mask[300:350] = False
    problem = problem_of(speech[:999], mask)
    changed = problem.observed.clone()
    changed[300:350] = 5.0
    for one, two in zip(run(problem), run(Problem(changed, problem.clean, 16000, Mask(mask))), strict=True):
        assert torch.equal(one.output, two.output)
        assert torch.equal(one.loss, two.loss)


def test_the_seed_determines_the_fit(speech):
    problem = problem_of(speech[:999])
    assert torch.equal(run(problem, seed=1)[-1].output, run(problem, seed=1)[-1].output)
    assert not torch.equal(run(problem, seed=1)[-1].output, run(problem, seed=2)[-1].output)


def test_input_noise_is_fixed_unless_resampled(speech):
    problem = problem_of(speech[:999])
    fixed, drawn_anew = run(problem), run(problem, resample_input=True)
    assert torch.equal(fixed[0].z, fixed[3].z)
    assert torch.equal(fixed[0].z, drawn_anew[0].z)
    assert not torch.equal(drawn_anew[0].z, drawn_anew[3].z)


@pytest.mark.parametrize(
    ("settings", "std", "kurtosis"),
    [
        ({"input_noise": "gaussian"}, 0.1, 3.0),
        ({"input_noise": "uniform"}, 1 / math.sqrt(3), 1.8),
        ({"input_noise": "gaussian", "input_std": 0.7}, 0.7, 3.0),
        ({"input_noise": "uniform", "input_std": 0.7}, 0.7, 1.8),
    ],
)
def test_input_noise_has_its_distribution(settings, std, kurtosis):
    z = input_noise(200_000, FitConfig(**settings), seeded(0, "input"))
    assert z.shape == (1, 1, 200_000)
    assert z.std().item() == pytest.approx(std, rel=0.01)
    assert (z.pow(4).mean() / z.square().mean() ** 2).item() == pytest.approx(kurtosis, abs=0.05)


def test_a_loss_that_is_not_finite_stops_the_fit(speech, device):
    with pytest.raises(FitDiverged, match="epoch"):
        run(problem_of(speech[:999]).to(device), epochs=200, lr=1e30)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "cuda:x", "cuda:", "CPU", "cpu:0"):
        with pytest.raises(BadInput, match="must be auto, cpu"):
            pick_device(name)
    with refused_as("unavailable"):
        pick_device(f"cuda:{torch.cuda.device_count()}")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_epoch_does_not_wait_for_the_device(speech):
    mask = torch.ones(999, dtype=torch.bool)
    mask[5] = False
    problem = problem_of(speech[:999], mask).to(torch.device("cuda"))
    generator = build(GeneratorConfig(channels=4, lstm_layers=0), seeded(0, "weights")).to("cuda")
    config = MetricConfig(pesq_every=1000)
    oracle, estimates = OracleStop(problem, config, generator), Estimates(problem, config.ema)
    held_out = torch.zeros_like(problem.mask)
    held_out[100:120] = True
    stops = [VarianceStop(problem, 5, generator, None), HoldoutStop(problem, held_out, generator, None)]
    steps = iter(Fit(problem, generator, FitConfig(epochs=20), seeded(0, "input"), held_out))

    def watch():
        step = next(steps)
        current = estimates.update(step)
        for watcher in (oracle, *stops):
            watcher.update(step, current)

    watch()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            watch()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_starts_from_the_same_weights_and_input_as_the_cpu(speech):
    problem = problem_of(speech[:999])
    torch.testing.assert_close(
        run(problem, epochs=1)[0].output,
        run(problem.to(torch.device("cuda")), epochs=1)[0].output.cpu(),
        atol=1e-4,
        rtol=1e-3,
    )


def test_held_out_samples_do_not_affect_the_fit(speech):
    """Changing held-out samples does not change the outputs; changing fitted samples does."""
    problem = problem_of(speech[:999])
    other = problem.observed.clone()
    held_out = hold_out(problem, 0.1, torch.Generator().manual_seed(0))
    other[held_out] = 9.0
    changed = Problem(other, problem.clean, 16000)

    def outputs(posed, held):
        generator = build(GeneratorConfig(depth=1, channels=4, lstm_layers=0), seeded(0, "weights"))
        steps = Fit(posed, generator, FitConfig(epochs=5), seeded(0, "input"), held)
        return torch.stack([step.output for step in steps])

    assert torch.equal(outputs(problem, held_out), outputs(changed, held_out))
    assert not torch.equal(outputs(problem, None), outputs(changed, None))


def test_held_out_samples_and_gaps_are_both_excluded(speech):
    mask = torch.ones(999, dtype=torch.bool)
    mask[100:200] = False
    held_out = torch.zeros(999, dtype=torch.bool)
    held_out[300:320] = True
    problem = problem_of(speech[:999], mask)
    generator = build(GeneratorConfig(depth=1, channels=4, lstm_layers=0), seeded(0, "weights"))
    counted = mask & ~held_out
    for step in Fit(problem, generator, FitConfig(epochs=3), seeded(0, "input"), held_out):
        torch.testing.assert_close(step.loss, (step.output - problem.observed)[counted].abs().mean())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_network_agrees_with_the_plain_one(speech):
    settings = {**TINY, "epochs": 10, "lr": 0.01}
    plain = dawp.denoise(speech[:4000], **settings).history.column("loss")
    compiled = dawp.denoise(speech[:4000], **settings, compile=True).history.column("loss")
    assert compiled == pytest.approx(plain, rel=1e-3)
    assert len(set(compiled)) == 10
