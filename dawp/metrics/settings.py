"""Settings of the metrics."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from dawp.errors import BadInput, printable
from dawp.metrics.base import METRICS, default_metrics
from dawp.settings import Settings, setting


@dataclass(frozen=True)
class MetricConfig(Settings):
    """Metrics: the comparison of estimates with the clean clip."""

    metrics: str | None = setting(
        None,
        lambda: (
            f"metrics to compute and show, as NAME,NAME,...: {', '.join(METRICS)}; the first fast one selects "
            "the weights that are kept; for restored recordings only those without a clean clip, such as dnsmos"
        ),
        none="si_snr, psnr, pesq and the metrics of plugins",
        none_word="default",
        brief="metrics to compute, as NAME,NAME,...",
    )
    pesq_every: int = setting(
        1, "epochs between computations of PESQ and other slow metrics", at_least=1, at_most=10**9
    )
    ema: float = setting(
        0.98, "decay of the running mean of outputs, the second estimate of each epoch; 0 for none", at_least=0, below=1
    )
    zero_mean: bool = setting(False, "subtract the means before SI-SNR")
    data_range: float | None = setting(
        2.0,
        "peak of PSNR: the range of amplitudes",
        above=0,
        at_most=1e6,
        none="the clean clip's maximum minus its minimum",
    )
    baselines: bool = setting(
        False,
        "also evaluate classical methods, from the packages of the extra baselines",
        brief="also evaluate classical methods",
    )
    show_estimates_vs_noise: bool = setting(
        False, "also track each metric between the estimates and the corrupted clip, and plot it"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.names or not set(self.names) <= METRICS.keys():
            raise BadInput(f"metrics must be names of {', '.join(METRICS)}, got {printable(self.metrics)}")
        for package in filter(None, (METRICS[name].package for name in self.names)):
            if importlib.util.find_spec(package) is None:
                raise BadInput(
                    f"metrics {self.metrics} needs the package {package}, which is not installed "
                    "(pip install '.[metrics]' in the toolkit's folder)",
                    code="missing_package",
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the metrics to compute, each once."""
        if self.metrics is None:
            return default_metrics()
        return tuple(dict.fromkeys(name.strip() for name in self.metrics.split(",")))

    @property
    def without_clean(self) -> tuple[str, ...]:
        """The names of the selected metrics that need no clean clip, for restored recordings."""
        return () if self.metrics is None else tuple(name for name in self.names if not METRICS[name].needs_clean)

    def check_restoration(self) -> None:
        """Check that no metric is selected that needs a clean clip.

        Raises:
            BadInput: there is one.
        """
        if self.metrics is not None and self.without_clean != self.names:
            allowed = ", ".join(name for name, metric in METRICS.items() if not metric.needs_clean)
            needing = ", ".join(name for name in self.names if name not in self.without_clean)
            raise BadInput(f"metrics must be names of {allowed} for a restoration without a clean clip, got {needing}")

    def identity(self) -> dict[str, Any]:
        identity = super().identity()
        if self.metrics is None:
            del identity["metrics"]  # absent from runs of earlier versions
        return identity

    @classmethod
    def describe(cls) -> tuple[str, str]:
        title, description = super().describe()
        return title, f"{description.rstrip('.')} ({', '.join(metric.label for metric in METRICS.values())})."
