"""Measure the time of an epoch: forward, backward, optimiser and metrics, for the networks of Table 3 of the paper.

    python benchmarks/epoch_cost.py
    python benchmarks/epoch_cost.py --only LSTM --against ../DeepAudioWaveformPrior

The metrics are SI-SNR, PSNR and PESQ of the output and of the running mean, in every epoch. GFLOP counts convolutions,
matrix products and LSTMs, and is three times that of the forward pass. The limit of the machine is the faster of a
large convolution and a large matrix product, measured in the same run. The variants of an epoch are measured in turns,
and medians are reported. ``--against`` runs the network and the training loop of the paper's public code from a local
copy, in a separate process.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import machine, parser, report
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dawp.config import Config
from dawp.devices import pick_device
from dawp.methods.deep_prior.fit import Epoch, Fit
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.history import History
from dawp.methods.deep_prior.solver import solve
from dawp.metrics.pesq_pool import compute
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.tasks.denoise import add_noise

VARIANTS: dict[str, dict[str, Any]] = {
    "Conv": {"lstm_layers": 0},
    "Conv + GLU": {"lstm_layers": 0, "glu": True},
    "Conv + LSTM(4)": {},
    "Conv + LSTM(4) + GLU": {"glu": True},
    "Conv + attention(4)": {"lstm_layers": 0, "attention_layers": 4},
    "Conv(4) + LSTM(4)": {"depth": 4},
    "Conv + LSTM(4) + skip": {"skip": True},
}
RATE = 16000


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--only", default="", help="only variants whose name contains this")
    flags.add_argument("--seconds", type=float, default=2.0, help="length of the clip")
    flags.add_argument("--epochs", type=int, default=5, help="epochs per turn; six times as many for convolutions only")
    flags.add_argument("--turns", type=int, default=3, help="turns of each variant of an epoch")
    flags.add_argument("--device", default="auto")
    flags.add_argument(
        "--attention_seconds", type=float, default=0.5, help="length of the clip for attention, whose cost is quadratic"
    )
    flags.add_argument("--against", type=Path, help="local copy of the paper's public code")
    args = flags.parse_args()
    chosen = {name: settings for name, settings in VARIANTS.items() if args.only in name}
    if not chosen:
        flags.error(f"--only must be part of one of {', '.join(VARIANTS)}, got {args.only}")
    if args.epochs < 2:
        flags.error(f"--epochs must be at least 2, got {args.epochs}")
    device = pick_device(args.device)
    rows = []
    about = machine(str(device))
    limits = {"convolution": limit(convolution, device), "matrix product": limit(product, device)}
    print(", ".join(f"{name}: {value:.0f} GFLOP/s" for name, value in limits.items()), flush=True)
    for name, settings in chosen.items():
        seconds = args.attention_seconds if "attention" in name else args.seconds
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            peak = max(limits.values())
            rows.append(row(name, settings, round(seconds * RATE), args, device, peak, Path(folder)))
    report(
        "epoch_cost", about, rows, args.json, limits=limits, seconds=args.seconds, epochs=args.epochs, turns=args.turns
    )


def row(
    name: str, settings: dict[str, Any], length: int, args: Any, device: torch.device, peak: float, folder: Path
) -> dict[str, Any]:
    """Measure a row of the table; ``peak`` is the limit of the machine in GFLOP/s."""
    slow = bool(settings.get("lstm_layers", 4) or settings.get("attention_layers"))
    config = Config.of("denoise", device=str(device), epochs=args.epochs * (1 if slow else 6), **settings)
    clean = torch.sin(torch.arange(length) / 20) * torch.linspace(0.1, 0.5, length) + 0.01 * torch.randn(length)
    problem = add_noise(clean, RATE, config.corruption, seeded(0, "corruption"))
    generator = build(config.generator, seeded(0, "weights"), config.generator_settings).to(device)
    flops = 3 * forward_flops(generator, length, device)
    variants = variants_of(problem, generator, config, device)
    public = PublicCode(args.against, config, problem, device, folder) if args.against else None
    if public:
        variants |= {f"public {part}": partial(public.measure, part) for part in ("network", "epoch")}
    times = measure_in_turns(variants, args.turns)
    if public:
        public.close()
    return {"variant": f"{name}, {length / RATE:g} s", **values_of(times, flops, peak)}


def variants_of(
    problem: Problem, generator: Any, config: Config, device: torch.device
) -> dict[str, Callable[[], dict[str, float]]]:
    """Return the functions that measure the seconds of an epoch, by the name of the variant."""
    on_device = problem.to(device)

    def with_metrics() -> dict[str, float]:
        times = []

        def note(step: Epoch, history: History) -> None:
            if step.epoch in (1, config.fit.epochs):
                history.rows  # noqa: B018 - waits until all PESQ values are computed
                times.append(time.perf_counter())

        solve(problem, config, on_epoch=note)
        return {"s": (times[1] - times[0]) / (config.fit.epochs - 1)}

    def in_line() -> dict[str, float]:
        def compute_now(*args: Any) -> Tensor:
            return torch.tensor(compute(*args), dtype=torch.float64)

        with mock.patch("dawp.metrics.evaluator.compute_later", compute_now):
            return with_metrics()

    def plain() -> dict[str, float]:
        with mock.patch("dawp.methods.deep_prior.generators.lstm.outputs", lambda lstm, x: lstm(x)[0]):
            return parts(on_device, generator, config)

    variants: dict[str, Callable[[], dict[str, float]]] = {
        "network": partial(parts, on_device, generator, config),
        "metrics": with_metrics,
        "in line": in_line,
    }
    return variants | ({"plain": plain} if config.generator.lstm_layers else {})


def measure_in_turns(
    variants: dict[str, Callable[[], dict[str, float]]], turns: int
) -> dict[str, list[dict[str, float]]]:
    """Measure all variants in each turn, after one turn as a warm-up."""
    times: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
    for turn in range(turns + 1):
        for variant, run in variants.items():
            measured = run()
            if turn:
                times[variant].append(measured)
    return times


def values_of(times: dict[str, list[dict[str, float]]], flops: float, peak: float) -> dict[str, float]:
    """Return the values of a row by the names of their columns, from the seconds of each variant in each turn."""

    def median(variant: str, key: str = "s") -> float:
        return statistics.median(measured[key] for measured in times[variant])

    epoch = median("network")
    values = {
        **{f"{part} ms": 1000 * median("network", part) for part in ("forward", "backward", "optimiser")},
        "epoch ms": 1000 * epoch,
        "with metrics ms": 1000 * median("metrics"),
        "PESQ in line ms": 1000 * median("in line"),
        "GFLOP": flops / 1e9,
        "GFLOP/s": flops / 1e9 / epoch,
        "of the limit": flops / 1e9 / epoch / peak,
    }
    if "plain" in times:
        values["to nn.LSTM"] = epoch / median("plain")
    if "public network" in times:
        values["to public network"] = epoch / median("public network")
        values["to public epoch"] = median("metrics") / median("public epoch")
    return values


def parts(problem: Any, generator: Any, config: Config) -> dict[str, float]:
    """Return the mean seconds of the parts of an epoch and of the whole epoch, without metrics."""
    device = problem.observed.device
    spent = {"forward": 0.0, "backward": 0.0, "optimiser": 0.0}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        wait(device)
        began = time.perf_counter()
        yield
        wait(device)
        spent[part] += time.perf_counter() - began

    class Timed:
        """A generator with a timed forward pass."""

        def __getattr__(self, name: str) -> Any:
            return getattr(generator, name)

        def __call__(self, *args: Any) -> Any:
            with timed("forward"):
                return generator(*args)

    fit = Fit(problem, Timed(), config.fit, seeded(0, "input"))  # type: ignore[arg-type]
    step, backward = fit._optimizer.step, Tensor.backward

    def timed_step() -> None:
        with timed("optimiser"):
            step()

    def timed_backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
        with timed("backward"):
            backward(loss, *args, **kwargs)

    fit._optimizer.step = timed_step  # type: ignore[method-assign]
    began = time.perf_counter()
    with mock.patch.object(Tensor, "backward", timed_backward):
        for _ in fit:
            pass
    wait(device)
    epochs = config.fit.epochs
    return {**{part: seconds / epochs for part, seconds in spent.items()}, "s": (time.perf_counter() - began) / epochs}


class PublicCode:
    """The network, the training loop and the metrics of the paper's public code in a separate process."""

    def __init__(self, path: Path, config: Config, problem: Problem, device: torch.device, folder: Path) -> None:
        names = ("depth", "skip", "glu", "lstm_layers", "attention_layers", "attention_heads", "resample")
        clips = folder / "clips.pt"
        if problem.clean is None:
            raise ValueError("problem must have a clean clip for the public code, got none")
        torch.save([wave[None, None] for wave in (problem.clean, problem.observed)], clips)
        request = {
            "path": str(path.resolve()),
            "device": str(device),
            "lr": config.fit.lr,
            "epochs": config.fit.epochs,
            "rate": RATE,
            "network": {name: getattr(config.generator, name) for name in names},
            "clips": str(clips),
        }
        command = [sys.executable, str(Path(__file__).with_name("public_epoch.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        print(json.dumps(request), file=self._process.stdin, flush=True)

    def measure(self, part: str) -> dict[str, float]:
        """Return the mean seconds of an epoch of ``network`` (without metrics) or ``epoch`` (with metrics)."""
        answer = ""
        with suppress(BrokenPipeError):
            print(part, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline() if self._process.stdout else ""
        if not answer:
            raise SystemExit("the public code failed; its output is above")
        return {"s": float(answer)}

    def close(self) -> None:
        """Wait for the process to end."""
        self._process.communicate()


def forward_flops(generator: nn.Module, length: int, device: torch.device) -> float:
    """Count the floating-point operations of a forward pass; torch counts all layers except LSTMs."""
    lstm_flops = 0

    def count(lstm: nn.LSTM, x: Tensor) -> None:
        nonlocal lstm_flops
        frames, batch, _ = x.shape
        width = lstm.hidden_size
        directions = 2 if lstm.bidirectional else 1
        sizes = [lstm.input_size] + [directions * width] * (lstm.num_layers - 1)
        lstm_flops += sum(directions * 2 * frames * batch * 4 * width * (size + width) for size in sizes)

    hooks = [
        part.register_forward_pre_hook(lambda _, inputs, part=part: count(part, inputs[0]))
        for part in generator.modules()
        if isinstance(part, nn.LSTM)
    ]
    z = torch.randn(1, 1, generator.valid_length(length), device=device)  # type: ignore[operator]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        generator(z, length)
    for hook in hooks:
        hook.remove()
    return float(counter.get_total_flops() + lstm_flops)


def limit(work: Callable[[torch.device], tuple[float, Callable[[], Any]]], device: torch.device) -> float:
    """Return the GFLOP/s of the fastest of eight runs."""
    flops, run = work(device)
    times = []
    for _ in range(8):
        wait(device)
        began = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - began)
    return flops / min(times) / 1e9


def convolution(device: torch.device) -> tuple[float, Callable[[], Any]]:
    x, weight = torch.randn(1, 256, 16384, device=device), torch.randn(256, 256, 3, device=device)
    return 2 * 256 * 256 * 3 * 16384, lambda: F.conv1d(x, weight, padding=1)


def product(device: torch.device) -> tuple[float, Callable[[], Any]]:
    x = torch.randn(2048, 2048, device=device)
    return 2 * 2048**3, lambda: x @ x


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
