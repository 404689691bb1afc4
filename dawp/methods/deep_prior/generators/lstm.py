"""A bidirectional LSTM that runs its two directions in parallel on two cores.

On a CPU oneDNN runs the directions one after the other on a single core, for any number of threads. Here each direction
of a layer has its own thread in the forward and backward passes. Weights and numbers are those of nn.LSTM.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Made = TypeVar("Made")
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def outputs(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Compute ``lstm(x)[0]`` of a bidirectional LSTM with an initial state of zeros.

    Args:
        lstm: of one size of input and hidden state, without dropout or projection.
        x: ``(frames, B, size)``.

    Returns:
        ``(frames, B, 2 * size)``.

    Raises:
        RuntimeError: x has another shape.
    """
    lstm.check_input(x, None)
    if x.device.type != "cpu" or torch.get_num_threads() == 1 or not torch.is_grad_enabled():
        made: Tensor = lstm(x)[0]
        return made
    for layer in range(lstm.num_layers):
        weights = [getattr(lstm, f"{name}_l{layer}{way}") for way in ("", "_reverse") for name in WEIGHTS]
        x = _Layer.apply(x, *weights)  # type: ignore[no-untyped-call]
    return x


class _Layer(torch.autograd.Function):
    """One layer. Each direction has its own graph, which its own thread builds and differentiates."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        half = len(weights) // 2
        ctx.directions = _together(
            lambda: _direction(x, weights[:half], backwards=False),
            lambda: _direction(x, weights[half:], backwards=True),
        )
        return torch.cat([output.detach() for _, output in ctx.directions], dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        (given, output), (given_reverse, output_reverse) = ctx.directions
        grad_forward, grad_reverse = grad.chunk(2, dim=-1)
        grads, grads_reverse = _together(
            lambda: torch.autograd.grad(output, given, grad_forward),
            lambda: torch.autograd.grad(output_reverse, given_reverse, grad_reverse),
        )
        ctx.directions = None
        return (grads[0] + grads_reverse[0], *grads[1:], *grads_reverse[1:])


def _direction(x: Tensor, weights: Sequence[Tensor], backwards: bool) -> tuple[list[Tensor], Tensor]:
    """The leaves of one direction's graph, and its output ``(frames, B, size)``."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
        sequence = leaves[0].flip(0) if backwards else leaves[0]
        state = x.new_zeros(1, x.shape[1], weights[1].shape[1])
        output: Tensor = torch.lstm(sequence, (state, state), leaves[1:], True, 1, 0.0, True, False, False)[0]
        return leaves, output.flip(0) if backwards else output


def _together(first: Callable[[], Made], second: Callable[[], Made]) -> tuple[Made, Made]:
    """Return the results of both directions, each computed by its own thread."""
    threads, before = _threads(), torch.get_num_threads()
    torch.set_num_threads(1)  # MKL has one number for all threads, and two of them for each direction are far slower
    try:
        waiting = [threads.submit(work) for work in (first, second)]
        return waiting[0].result(), waiting[1].result()
    finally:
        torch.set_num_threads(before)


@cache
def _threads() -> ThreadPoolExecutor:
    """Two threads, each with one core of its own."""
    before = torch.get_num_threads()
    threads = ThreadPoolExecutor(2, "direction", initializer=lambda: torch.set_num_threads(1))
    both = threading.Barrier(2)
    for started in [threads.submit(both.wait) for _ in range(2)]:  # one alone would do both if it were quick
        started.result()
    torch.set_num_threads(before)  # new threads inherit the last value
    return threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a forked process has none of its parent's threads
