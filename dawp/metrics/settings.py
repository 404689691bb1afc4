"""Settings of the metrics."""

from __future__ import annotations

from dataclasses import dataclass

from dawp.metrics.base import METRICS
from dawp.settings import Settings, setting


@dataclass(frozen=True)
class MetricConfig(Settings):
    """Metrics: the comparison of estimates with the clean clip."""

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

    @classmethod
    def describe(cls) -> tuple[str, str]:
        title, description = super().describe()
        return title, f"{description.rstrip('.')} ({', '.join(metric.label for metric in METRICS.values())})."
