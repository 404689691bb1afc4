"""The registry of metrics, and the names of measurements.

This module loads no signal processing: the command line reads it for its help.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dawp.plugins import add_part, import_object

if TYPE_CHECKING:
    from torch import Tensor

    from dawp.problem import Problem

OUTPUT, MEAN = "output", "mean"
"""The estimates of an epoch: the output of the network, and the running mean of the outputs."""

CLIP, GAPS = "clip", "gaps"
"""The regions: the whole clip, and the gaps alone."""

CLEAN, CORRUPTED = "clean", "corrupted"
"""The targets that an estimate is compared with."""

_MEAN_PREFIX, _GAPS_PREFIX, _CORRUPTED_SUFFIX = "ema_", "gap_", "_vs_corrupted"
COLUMNS = ("epoch", "loss")  # of metrics.csv, beside measurements and stopping rules


class UndefinedMetric(ValueError):
    """A metric is not defined for a pair of waveforms; the message gives the reason."""


@dataclass(frozen=True)
class Metric:
    """A measure of the distance between an estimate and a target.

    Attributes:
        name: as in metrics.csv, result.json and summary.json.
        label: as in tables and plots.
        function: maps an estimate and a target ``[..., T]``, on any device, to values ``[...]``; NaN where the metric
            is not defined. As ``"module:function"`` it is imported when it is needed.
        unit: of the values; empty for none.
        higher_is_better: whether a larger value is better.
        on_gaps: whether the metric is also computed on the gaps alone, each gap as a signal of its own.
        is_default: whether the metric is computed without ``--metrics``.
        options: maps the problem and the settings (``MetricConfig``) to keyword arguments of ``function``.
        package: optional package that the metric requires, from the extra ``metrics`` of setup.py; None for none.
        is_slow: whether the metric is computed only every ``--pesq_every`` epochs, in other processes. ``function`` is
            then ``"module:function"``, maps an estimate and a target (NumPy, float32, ``[T]``) and the sample rate to
            a float, and raises ValueError with the reason where the metric is not defined. Each process imports the
            module, so it should load quickly.
        prepare: for a slow metric, maps an estimate and a target ``[T]`` and the sample rate to those that ``function``
            receives; raises UndefinedMetric. None to pass them on.
        needs_clean: whether the metric compares the estimate with the target. The others also describe restored
            recordings.
        checked_by: name of a metric of higher-is-better kind that must not be low where this one is best; its value at
            that epoch is recorded with the best value. None for no check.
    """

    name: str
    label: str
    function: str | Callable[..., Tensor]
    unit: str = ""
    higher_is_better: bool = True
    on_gaps: bool = False
    is_default: bool = True
    options: Callable[[Problem, Any], dict[str, Any]] | None = None
    is_slow: bool = False
    prepare: str | Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, int]] | None = None
    checked_by: str | None = None
    package: str | None = None
    needs_clean: bool = True

    def __post_init__(self) -> None:
        if self.is_slow and (self.on_gaps or not isinstance(self.function, str)):
            raise ValueError(f"{self.name}: a slow metric needs a function 'module:function' and has no gaps")

    def bind(self, problem: Problem, config: Any) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the function of an estimate and a target with the options of a problem."""
        function = import_object(self.function)
        options = self.options(problem, config) if self.options else {}
        return lambda estimate, target: function(estimate, target, **options)

    def gain(self, value: float, reference: float) -> float:
        """Return the improvement over a reference: positive where the value is better."""
        return value - reference if self.higher_is_better else reference - value


METRICS: dict[str, Metric] = {}
"""The registered metrics, by name; the first one also selects the weights that are kept."""


def register(metric: Metric) -> None:
    """Add a metric to the registry, for fits, tables, summaries and the report.

    Raises:
        ValueError: there is a metric of that name, or the name is reserved.
    """
    if metric.name in COLUMNS or Measurement.parse(metric.name) != Measurement(metric.name):
        raise ValueError(f"{metric.name} is a reserved name")
    add_part(METRICS, metric.name, metric, "metric")


@dataclass(frozen=True)
class Measurement:
    """A metric of an estimate, in a region, against a target.

    Attributes:
        metric: name of the metric.
        region: ``CLIP`` or ``GAPS``.
        estimate: ``OUTPUT`` or ``MEAN``; ``OUTPUT`` also for any other estimate, such as that of a baseline.
        target: the clip that the estimate is compared with, ``CLEAN`` or ``CORRUPTED``.

    Example:
        >>> Measurement("si_snr", GAPS, MEAN).name
        'ema_gap_si_snr'
        >>> Measurement.parse("ema_gap_si_snr").label
        'gap SI-SNR (dB)'
    """

    metric: str
    region: str = CLIP
    estimate: str = OUTPUT
    target: str = CLEAN

    @classmethod
    def parse(cls, name: str) -> Measurement:
        """Return the measurement of a name on disk; any other name is read as that of an unknown metric."""
        rest = name.removeprefix(_MEAN_PREFIX)
        estimate = OUTPUT if rest == name else MEAN
        metric = rest.removeprefix(_GAPS_PREFIX)
        region = CLIP if metric == rest else GAPS
        compared = metric.removesuffix(_CORRUPTED_SUFFIX)
        return cls(compared, region, estimate, CLEAN if compared == metric else CORRUPTED)

    @property
    def name(self) -> str:
        """The column of metrics.csv, and the key of result.json and summary.json."""
        return (
            f"{_MEAN_PREFIX if self.estimate == MEAN else ''}{_GAPS_PREFIX if self.region == GAPS else ''}"
            f"{self.metric}{_CORRUPTED_SUFFIX if self.target == CORRUPTED else ''}"
        )

    @property
    def is_known(self) -> bool:
        """Whether the metric is registered."""
        return self.metric in METRICS

    @property
    def kind(self) -> Metric:
        """The metric; one without a unit if it is not registered any more."""
        return METRICS.get(self.metric) or Metric(self.metric, self.metric, "")

    @property
    def title(self) -> str:
        """The metric and the region, as in the headings of tables."""
        return f"{'gap ' if self.region == GAPS else ''}{self.kind.label}"

    @property
    def label(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.kind.unit})" if self.kind.unit else self.title

    @property
    def of_output(self) -> Measurement:
        """The measurement of the output with the same metric and region, which the corrupted clip has too."""
        return replace(self, estimate=OUTPUT)

    @property
    def check(self) -> Measurement | None:
        """The measurement that is recorded where this one is best; None for none."""
        return replace(self, metric=self.kind.checked_by) if self.kind.checked_by else None


def measurements(gaps: bool = True, names: Iterable[str] | None = None) -> list[Measurement]:
    """Return the measurements of an estimate, the most informative first.

    Args:
        gaps: include the metrics on the gaps alone.
        names: of registered metrics; None for all of them.
    """
    names = list(METRICS if names is None else names)
    on_gaps = [Measurement(name, GAPS) for name in names if METRICS[name].on_gaps and gaps]
    return [*on_gaps, *map(Measurement, names)]


def default_metrics() -> tuple[str, ...]:
    """Return the names of the metrics that are computed without ``--metrics``."""
    return tuple(name for name, metric in METRICS.items() if metric.is_default)


def _si_snr_options(problem: Problem, config: Any) -> dict[str, Any]:
    return {"zero_mean": config.zero_mean}


def _psnr_options(problem: Problem, config: Any) -> dict[str, Any]:
    """The range of the whole clean clip, also on the gaps."""
    if config.data_range is not None or problem.clean is None:
        return {"data_range": config.data_range}
    return {"data_range": (problem.clean.max() - problem.clean.min()).item()}


def _frame_options(problem: Problem, config: Any) -> dict[str, Any]:
    return {"sample_rate": problem.sample_rate}


def _high_band_options(problem: Problem, config: Any) -> dict[str, Any]:
    """The band above the cutoff; empty for tasks without one."""
    return {"sample_rate": problem.sample_rate, "above": problem.facts.get("cutoff_hz", math.inf)}


def _damaged_options(problem: Problem, config: Any) -> dict[str, Any]:
    return {"selected": None if problem.clean is None else problem.observed != problem.clean}


for _metric in (
    Metric(
        name="si_snr",
        label="SI-SNR",
        function="dawp.metrics.functions:si_snr",
        unit="dB",
        on_gaps=True,
        options=_si_snr_options,
    ),
    Metric(
        name="psnr",
        label="PSNR",
        function="dawp.metrics.functions:psnr",
        unit="dB",
        on_gaps=True,
        options=_psnr_options,
    ),
    Metric(
        name="pesq",
        label="PESQ",
        function="dawp.metrics.pesq_process:pesq_score",
        is_slow=True,
        prepare="dawp.metrics.functions:for_pesq",
        checked_by="si_snr",  # the PESQ of an output next to silence can be high
    ),
    Metric(
        name="snr",
        label="SNR",
        function="dawp.metrics.functions:snr",
        unit="dB",
        on_gaps=True,
        is_default=False,
    ),
    Metric(
        name="snr_damaged",
        label="SNR of damaged samples",
        function="dawp.metrics.functions:snr",
        unit="dB",
        is_default=False,
        options=_damaged_options,
    ),
    Metric(
        name="lsd",
        label="LSD",
        function="dawp.metrics.functions:lsd",
        unit="dB",
        higher_is_better=False,
        is_default=False,
        options=_frame_options,
    ),
    Metric(
        name="lsd_high",
        label="LSD above the cutoff",
        function="dawp.metrics.functions:lsd",
        unit="dB",
        higher_is_better=False,
        is_default=False,
        options=_high_band_options,
    ),
    Metric(
        name="stoi",
        label="STOI",
        function="dawp.metrics.intelligibility:stoi_score",
        is_default=False,
        is_slow=True,
        package="pystoi",
    ),
    Metric(
        name="estoi",
        label="ESTOI",
        function="dawp.metrics.intelligibility:estoi_score",
        is_default=False,
        is_slow=True,
        package="pystoi",
    ),
    Metric(
        name="dnsmos",
        label="DNSMOS",
        function="dawp.metrics.dnsmos:dnsmos_score",
        is_default=False,
        is_slow=True,
        prepare="dawp.metrics.functions:for_dnsmos",
        package="speechmos",
        needs_clean=False,
    ),
    Metric(
        name="cepstral_distance",
        label="cepstral distance",
        function="dawp.metrics.cepstral:cepstral_distance",
        unit="dB",
        higher_is_better=False,
        is_default=False,
        options=_frame_options,
    ),
):
    register(_metric)
