"""What an epoch costs: forward, backward, optimiser and metrics, for the networks of the paper's Table 3.

    python benchmarks/epoch_cost.py
    python benchmarks/epoch_cost.py --only LSTM --against ../DeepAudioWaveformPrior

Metrics are SI-SNR, PSNR and PESQ of the output and of the running mean, in every epoch. GFLOP are those of
convolutions, matrix products and LSTMs, three times the forward pass. The machine's limit is the faster of a large
convolution and a large matrix product, measured in the same run. All ways of doing an epoch that are compared take
turns, and medians are told. ``--against`` runs the network and the loop of the paper's public code from a local copy
of it, in a process of its own.
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
from common import machine, parser, tell
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
    flags.add_argument("--seconds", type=float, default=2.0, help="of the clip")
    flags.add_argument("--epochs", type=int, default=5, help="of each turn; of convolutions alone six times as many")
    flags.add_argument("--turns", type=int, default=3, help="of each way of doing an epoch")
    flags.add_argument("--device", default="auto")
    flags.add_argument(
        "--attention_seconds", type=float, default=0.5, help="of the clip for attention: it is quadratic"
    )
    flags.add_argument("--against", type=Path, help="a copy of the paper's public code")
    args = flags.parse_args()
    chosen = {name: settings for name, settings in VARIANTS.items() if args.only in name}
    if not chosen:
        flags.error(f"--only must be part of one of {', '.join(VARIANTS)}, got {args.only}")
    if args.epochs < 2:
        flags.error(f"--epochs must be at least 2, since one tells no time between two, got {args.epochs}")
    device = pick_device(args.device)
    rows = []
    about = machine(str(device))
    limits = {"convolution": limit(convolution, device), "matrix product": limit(product, device)}
    print(", ".join(f"{name}: {value:.0f} GFLOP/s" for name, value in limits.items()), flush=True)
    for name, settings in chosen.items():
        seconds = args.attention_seconds if "attention" in name else args.seconds
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            most = max(limits.values())
            rows.append(row(name, settings, round(seconds * RATE), args, device, most, Path(folder)))
    tell(
        "epoch_cost", about, rows, args.json, limits=limits, seconds=args.seconds, epochs=args.epochs, turns=args.turns
    )


def row(
    name: str, settings: dict[str, Any], length: int, args: Any, device: torch.device, most: float, folder: Path
) -> dict[str, Any]:
    slow = bool(settings.get("lstm_layers", 4) or settings.get("attention_layers"))
    config = Config.of("denoise", device=str(device), epochs=args.epochs * (1 if slow else 6), **settings)
    clean = torch.sin(torch.arange(length) / 20) * torch.linspace(0.1, 0.5, length) + 0.01 * torch.randn(length)
    problem = add_noise(clean, RATE, config.corruption, seeded(0, "corruption"))
    there = problem.to(device)
    generator = build(config.generator, seeded(0, "weights"), config.generator_settings).to(device)
    flops = 3 * forward_flops(generator, length, device)

    def network() -> dict[str, float]:
        return parts(there, generator, config)

    def judged() -> dict[str, float]:
        times = []

        def note(step: Epoch, history: History) -> None:
            if step.epoch in (1, config.fit.epochs):
                history.rows  # noqa: B018 - waits for all PESQ, so that none of it is left out
                times.append(time.perf_counter())

        solve(problem, config, on_epoch=note)
        return {"s": (times[1] - times[0]) / (config.fit.epochs - 1)}

    def in_line() -> dict[str, float]:
        def compute_now(*of: Any) -> Tensor:
            return torch.tensor(compute(*of), dtype=torch.float64)

        with mock.patch("dawp.metrics.evaluator.compute_later", compute_now):
            return judged()

    def plain() -> dict[str, float]:
        with mock.patch("dawp.methods.deep_prior.generators.lstm.outputs", lambda lstm, x: lstm(x)[0]):
            return parts(there, generator, config)

    ways: dict[str, Callable[[], dict[str, float]]] = {"network": network, "judged": judged, "in line": in_line}
    if config.generator.lstm_layers:
        ways["plain"] = plain
    theirs = Theirs(args.against, config, problem, device, folder) if args.against else None
    if theirs:
        ways |= {f"their {what}": partial(theirs.ask, what) for what in ("network", "epoch")}
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for turn in range(args.turns + 1):
        for way, run in ways.items():
            measured = run()
            if turn:  # the first one warms up
                taken[way].append(measured)
    if theirs:
        theirs.end()

    def median(way: str, key: str = "s") -> float:
        return statistics.median(one[key] for one in taken[way])

    own = median("network")
    told = {
        "variant": f"{name}, {length / RATE:g} s",
        **{f"{part} ms": 1000 * median("network", part) for part in ("forward", "backward", "optimiser")},
        "epoch ms": 1000 * own,
        "with metrics ms": 1000 * median("judged"),
        "PESQ in line ms": 1000 * median("in line"),
        "GFLOP": flops / 1e9,
        "GFLOP/s": flops / 1e9 / own,
        "of the limit": flops / 1e9 / own / most,
    }
    if "plain" in ways:
        told["to nn.LSTM"] = own / median("plain")
    if theirs:
        told["to public network"] = own / median("their network")
        told["to public epoch"] = median("judged") / median("their epoch")
    return told


def parts(problem: Any, generator: Any, config: Config) -> dict[str, float]:
    """Mean seconds of the parts of an epoch, and of all of it, without metrics."""
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
        """A generator whose forward is timed."""

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

    def timed_backward(loss: Tensor, *args: Any, **how: Any) -> None:
        with timed("backward"):
            backward(loss, *args, **how)

    fit._optimizer.step = timed_step  # type: ignore[method-assign]
    began = time.perf_counter()
    with mock.patch.object(Tensor, "backward", timed_backward):
        for _ in fit:
            pass
    wait(device)
    epochs = config.fit.epochs
    return {**{part: seconds / epochs for part, seconds in spent.items()}, "s": (time.perf_counter() - began) / epochs}


class Theirs:
    """The network, the loop and the metrics of the paper's public code, in a process of its own."""

    def __init__(self, path: Path, config: Config, problem: Problem, device: torch.device, folder: Path) -> None:
        names = ("depth", "skip", "glu", "lstm_layers", "attention_layers", "attention_heads", "resample")
        clips = folder / "clips.pt"
        if problem.clean is None:
            raise ValueError("the public code is timed on a clip whose clean version is known")
        torch.save([wave[None, None] for wave in (problem.clean, problem.observed)], clips)
        asked = {
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
        print(json.dumps(asked), file=self._process.stdin, flush=True)

    def ask(self, what: str) -> dict[str, float]:
        told = ""
        with suppress(BrokenPipeError):
            print(what, file=self._process.stdin, flush=True)
            told = self._process.stdout.readline() if self._process.stdout else ""
        if not told:
            raise SystemExit("the public code has ended before its time; what it said stands above")
        return {"s": float(told)}

    def end(self) -> None:
        self._process.communicate()


def forward_flops(generator: nn.Module, length: int, device: torch.device) -> float:
    """Floating-point operations of a forward pass: counted by torch, but for LSTMs, which it does not count."""
    lstm_flops = 0

    def count(lstm: nn.LSTM, x: Tensor) -> None:
        nonlocal lstm_flops
        frames, batch, _ = x.shape
        width = lstm.hidden_size
        ways = 2 if lstm.bidirectional else 1
        sizes = [lstm.input_size] + [ways * width] * (lstm.num_layers - 1)
        lstm_flops += sum(ways * 2 * frames * batch * 4 * width * (size + width) for size in sizes)

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
    """GFLOP/s of the fastest of some tries."""
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
