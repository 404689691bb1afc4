"""The fit: one randomly initialised network against one corrupted clip (paper section 2). The only loop."""

from __future__ import annotations

import ctypes
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dawp.errors import FitDiverged
from dawp.methods.deep_prior.generators.generator import Generator
from dawp.methods.deep_prior.settings import FitConfig
from dawp.problem import Problem

PAPER_INPUT_STD = {"gaussian": 0.1, "uniform": 1 / math.sqrt(3)}  # paper section 2.1; uniform on (-1, 1)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt in glibc's malloc.h
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam
CHECK_EVERY = 50  # epochs between checks of the loss if a check makes the host wait for the device


class Epoch(NamedTuple):
    """One step of the fit, before the update: ``generator`` still has the weights that made ``output`` from ``z``."""

    epoch: int  # from 1
    loss: Tensor  # scalar, on the fit's device
    output: Tensor  # G(z), aligned with the clip, [T], on the fit's device
    prediction: Tensor  # A(G(z)), [T], on the fit's device
    z: Tensor  # [1, 1, valid_length(operator.input_length(T))]


class Fit:
    """The epochs of a fit: minimises the distance between the predicted and the corrupted clip.

    With G the generator, z its input noise, A the operator, y the corrupted clip and M the known samples that are not
    held out, Adam minimises over the weights w

        mean over M of |A(G_w(z)) - y|     (L1; squared for L2),

    or the distance that the operator defines instead.

    Args:
        problem: the corrupted clip and its operator, on the generator's device; its clean clip is not used.
        generator: the network; its weights are changed in place.
        config: epochs, learning rate, loss, input noise, and whether the network works at unit RMS.
        rng: source of the input noise, on the CPU so that every device gets the same.
        held_out: bool ``[T]``, samples left out of the loss for the stopping rule; None for none.

    Yields:
        Epochs 1 to ``config.epochs``, or those that a resumed fit still has to do; each before its step.

    Raises:
        FitDiverged: the loss is NaN or infinite.
    """

    def __init__(
        self,
        problem: Problem,
        generator: Generator,
        config: FitConfig,
        rng: torch.Generator,
        held_out: Tensor | None = None,
    ) -> None:
        _keep_memory()
        self._problem, self._generator, self._config, self._rng = problem, generator, config, rng
        mask = problem.mask
        if held_out is not None:
            mask = ~held_out if mask is None else mask & ~held_out
        self._weight = None if mask is None else mask / mask.sum()
        if config.normalize:
            level = problem.operator.rough_inverse(problem.observed)
            counted = level if mask is None else level[mask]
            generator.gain.copy_(generator.gain_for(counted))
        self._optimizer = Adam(generator.parameters(), config.lr)
        self._forward = torch.compile(generator) if config.compile else generator
        self._z = self._draw()
        self._epoch = 1

    def __iter__(self) -> Iterator[Epoch]:
        problem, config, device = self._problem, self._config, self._problem.observed.device
        operator = problem.operator
        length = operator.input_length(len(problem.observed))
        criterion, power = (F.l1_loss, 1) if config.crit == "L1" else (F.mse_loss, 2)
        # The loss is reported in the clip's units, but its gradients are those of a target of unit gain, so that
        # neither the first outputs of the network nor the steps of Adam depend on the level of the clip.
        unit = self._generator.gain**power
        finite = torch.ones((), dtype=torch.bool, device=device)
        while self._epoch <= config.epochs:
            with torch.enable_grad():
                output = self._forward(self._z, length)[0, 0]
                prediction = operator(output)
                loss = operator.distance(prediction, problem.observed, criterion, self._weight)
                normalized_loss = loss / unit
            finite &= torch.isfinite(loss)
            looked = device.type == "cpu" or self._epoch % CHECK_EVERY == 0 or self._epoch == config.epochs
            if looked and not finite:
                raise FitDiverged(f"the loss is not a finite number at epoch {self._epoch}; a lower lr may help")
            self._optimizer.zero_grad()
            normalized_loss.backward()  # type: ignore[no-untyped-call]
            yield Epoch(self._epoch, loss.detach(), operator.crop(output.detach()), prediction.detach(), self._z)
            self._optimizer.step()
            self._epoch += 1
            if config.resample_input and self._epoch <= config.epochs:
                self._z = self._draw()

    def state(self) -> dict[str, Any]:
        """Return everything that the current epoch and the later ones depend on; tensors are not copied."""
        return {
            "epoch": self._epoch,
            "weights": self._generator.state_dict(),
            "optimizer": self._optimizer.state(),
            "z": self._z,
            "rng": self._rng.get_state(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Resume with the epoch of a ``state``."""
        self._epoch = state["epoch"]
        self._generator.load_state_dict(state["weights"])
        self._optimizer.resume(state["optimizer"])
        self._z = state["z"]
        self._rng.set_state(state["rng"].cpu())

    def _draw(self) -> Tensor:
        length = self._problem.operator.input_length(len(self._problem.observed))
        return input_noise(self._generator.valid_length(length), self._config, self._rng).to(
            self._problem.observed.device
        )


@cache
def _keep_memory() -> None:
    """Keep freed memory in the process, because the next epoch allocates it again.

    By default glibc returns it to the system, and an epoch of convolutions spends a quarter of its time on new pages.
    If one of the environment variables of malloc is set, its settings are not changed.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = ctypes.CDLL(None).mallopt
    for option, most in ((M_TRIM_THRESHOLD, 1 << 30), (M_MMAP_THRESHOLD, 1 << 25)):
        mallopt(option, most)


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) with its usual decays, in one pass over all parameters.

    The numbers are those of ``torch.optim.Adam(fused=True)``, bit for bit. That class loads ``torch._dynamo`` when it
    is constructed, which takes 1.9 s of CPU time, and its step takes 2.27 ms where this one takes 1.82 ms (PyTorch
    2.11, 16 tensors of 1.1 million parameters, one thread). Hence the private function ``torch._fused_adam_``.
    Gradients must have the memory layout of their parameters, as autograd gives them.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._lr = lr
        self._mean = [torch.zeros_like(parameter, requires_grad=False) for parameter in self._parameters]
        self._square = [torch.zeros_like(parameter, requires_grad=False) for parameter in self._parameters]
        self._steps = torch.zeros((), device=self._parameters[0].device, dtype=torch.float32)

    def zero_grad(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        self._steps += 1
        torch._fused_adam_(
            self._parameters,
            [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters],
            self._mean,
            self._square,
            [],
            [self._steps] * len(self._parameters),
            lr=self._lr,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Any]:
        return {"mean": self._mean, "square": self._square, "steps": int(self._steps)}

    def resume(self, state: Mapping[str, Any]) -> None:
        self._mean, self._square = state["mean"], state["square"]
        self._steps.fill_(state["steps"])


def input_noise(length: int, config: FitConfig, rng: torch.Generator) -> Tensor:
    """Input noise z ``[1, 1, length]`` of the configured distribution and standard deviation."""
    std = PAPER_INPUT_STD[config.input_noise] if config.input_std is None else config.input_std
    if config.input_noise == "gaussian":
        return std * torch.randn(1, 1, length, generator=rng)
    return std * math.sqrt(3) * (2 * torch.rand(1, 1, length, generator=rng) - 1)
