import threading
import time

import pytest
import torch
from torch import nn

from dawp.methods.deep_prior.generators import lstm
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.randomness import seeded


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def gradients(network, x, function):
    """Return the output and the gradients of a loss that weights all its elements differently."""
    network.zero_grad()
    x = x.detach().requires_grad_()
    output = function(x)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return [output.detach(), x.grad, *(parameter.grad.clone() for parameter in network.parameters())]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(("frames", "batch", "size"), [(1, 1, 4), (50, 1, 8), (300, 2, 32)])
def test_outputs_and_gradients_are_those_of_torch(two_threads, layers, frames, batch, size):
    network = nn.LSTM(size, size, layers, bidirectional=True)
    x = torch.randn(frames, batch, size)
    ours = gradients(network, x, lambda x: lstm.outputs(network, x))
    plain = gradients(network, x, lambda x: network(x)[0])
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


def test_both_directions_run_in_parallel(two_threads, monkeypatch):
    inside, most, lock = 0, 0, threading.Lock()
    real = lstm._direction

    def watched(*given, **named):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        made = real(*given, **named)
        with lock:
            inside -= 1
        return made

    monkeypatch.setattr(lstm, "_direction", watched)
    lstm.outputs(nn.LSTM(4, 4, bidirectional=True), torch.randn(5, 1, 4))
    assert most == 2


def test_the_number_of_threads_is_restored(two_threads):
    lstm._threads.cache_clear()
    lstm.outputs(nn.LSTM(4, 4, bidirectional=True), torch.randn(5, 1, 4))
    assert torch.get_num_threads() == 2
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [2]


def test_without_gradients_there_is_no_graph(two_threads):
    network = nn.LSTM(4, 4, bidirectional=True)
    with torch.no_grad():
        output = lstm.outputs(network, torch.randn(5, 1, 4))
    assert not output.requires_grad
    with torch.inference_mode():
        assert lstm.outputs(network, torch.randn(5, 1, 4)).shape == (5, 1, 8)


def test_another_input_size_is_refused(two_threads):
    with pytest.raises(RuntimeError, match="Expected 4, got 3"):
        lstm.outputs(nn.LSTM(4, 4, bidirectional=True), torch.randn(5, 1, 3))


def test_the_weights_have_the_names_of_torch():
    generator = build(GeneratorConfig(channels=4, lstm_layers=2, resample=False), seeded(0, "weights"))
    names = {f"bottom.lstm.{name}" for name in nn.LSTM(8, 8, 2, bidirectional=True).state_dict()}
    assert names <= set(generator.state_dict())


def test_a_fit_is_reproducible(two_threads):
    from dawp import denoise

    losses = [
        denoise(torch.sin(torch.arange(4000) / 5), epochs=5, channels=8, lstm_layers=2, pesq_every=5).history.column(
            "loss"
        )
        for _ in range(2)
    ]
    assert losses[0] == losses[1]
