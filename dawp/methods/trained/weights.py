"""Model files: the weights of trained networks with the settings that they were trained with.

A file is a dictionary of tensors and plain values, saved by ``torch.save`` and loaded with ``weights_only=True``, so
that loading it runs no code. All values are checked before a network is built, and a network is built without memory
for its weights: the tensors of the file become its weights.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dawp.errors import BadInput, printable
from dawp.io.files import atomic_write, sha256_of
from dawp.settings import Settings

FORMAT = 1
MAX_BYTES = 1 << 33
MAX_NETWORKS, MAX_TENSORS = 16, 20000
MAX_RATE = 192000
SMALLEST_RMS = 1e-8
"""Lower bound of the RMS by which clips are divided before a network."""

Network = TypeVar("Network", bound=nn.Module)
Built = TypeVar("Built")


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        kind: of the model, as in ``dawp.training.base.KINDS``.
        task: whose corruption it removes; None for a model of clean clips.
        rate: sample rate in Hz.
        settings: from which its networks are built.
        networks: tensors of each network by name, by the name of the network.
        facts: plain values about the training, such as the settings of the corruption.
    """

    kind: str
    task: str | None
    rate: int
    settings: dict[str, Any]
    networks: dict[str, dict[str, Tensor]]
    facts: dict[str, Any] = field(default_factory=dict)


def save_model(path: Path, model: Model) -> None:
    """Write a model file.

    Raises:
        OSError: it cannot be written.
    """
    content = io.BytesIO()  # a full disk is an OSError then, which torch.save would make a RuntimeError
    plain = {name: getattr(model, name) for name in asdict(Model("", None, 0, {}, {}))}
    networks = {
        name: {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        for name, tensors in model.networks.items()
    }
    torch.save({"format": FORMAT, **plain, "networks": networks}, content)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_model(path: Path, setting: str = "weights") -> Model:
    """Read a model file.

    Args:
        path: of the file.
        setting: name of the setting that names the file, for messages.

    Raises:
        BadInput: the file does not exist or is not a valid model file.
    """

    def refuse(reason: str) -> BadInput:
        return BadInput(f"{setting} must be a model file, got {printable(path)} ({reason})", code="unreadable_input")

    if not path.is_file():
        reason = "a folder" if path.is_dir() else "no such file"
        raise BadInput(f"{setting} must be a model file, got {printable(path)} ({reason})", code="not_found")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise refuse(f"larger than {MAX_BYTES >> 30} GiB")
        if not zipfile.is_zipfile(path):
            raise refuse("not in the format of torch.save")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise refuse("compressed")
        if sum(entry.file_size for entry in entries) > size:
            raise refuse("damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except BadInput:
        raise
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}") from None
    except Exception as error:  # torch and zipfile raise errors of many types for damaged files
        raise refuse(f"damaged or unsafe content: {type(error).__name__}") from None
    reason = _fault(content, size)
    if reason:
        raise refuse(reason)
    return Model(**{name: value for name, value in content.items() if name != "format"})


def _fault(content: Any, size: int) -> str:
    """Return the reason why the content of a model file of ``size`` bytes is invalid; empty if it is valid."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return f"no model of format {FORMAT}"
    expected = {"format", "kind", "task", "rate", "settings", "networks", "facts"}
    if set(content) != expected:
        return "missing or unknown entries"
    if not isinstance(content["kind"], str) or not (content["task"] is None or isinstance(content["task"], str)):
        return "kind and task must be text"
    rate = content["rate"]
    if not isinstance(rate, int) or isinstance(rate, bool) or not 1000 <= rate <= MAX_RATE:
        return f"rate must be from 1000 to {MAX_RATE} Hz, got {printable(rate)}"
    if not all(_is_plain_dict(content[name]) for name in ("settings", "facts")):
        return "settings must be plain values"
    return _fault_of_networks(content["networks"], size)


def _fault_of_networks(networks: Any, size: int) -> str:
    if not isinstance(networks, dict) or not 1 <= len(networks) <= MAX_NETWORKS:
        return "no networks"
    tensors: list[Any] = []
    for name, weights in networks.items():
        if (
            not isinstance(name, str)
            or not isinstance(weights, dict)
            or not all(isinstance(key, str) for key in weights)
        ):
            return "no networks"
        tensors += weights.values()
    if len(tensors) > MAX_TENSORS:
        return "too many tensors"
    for tensor in tensors:
        is_dense = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.is_contiguous()
        if not is_dense or tensor.is_quantized or tensor.device.type != "cpu":
            return "tensors must be dense"
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > size:  # overlapping tensors
        return "tensors larger than the file"
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        return "weights that are not finite"
    return ""


def _is_plain_dict(value: Any) -> bool:
    """Return whether a value is a dictionary of text, numbers, None and lists or dictionaries of them."""

    def is_plain(value: Any, depth: int) -> bool:
        if depth > 4:
            return False
        if isinstance(value, dict):
            return all(isinstance(key, str) and is_plain(one, depth + 1) for key, one in value.items())
        if isinstance(value, list | tuple):
            return all(is_plain(one, depth + 1) for one in value)
        return value is None or isinstance(value, str | bool | int | float)

    return isinstance(value, dict) and is_plain(value, 0)


def check_model(model: Model, kind: str, task: str | None, setting: str = "weights") -> None:
    """Check that a model is of a kind and for a task.

    Args:
        model: a loaded model.
        kind: of the model that is needed.
        task: name of the task; None for any.
        setting: name of the setting that names the file, for messages.

    Raises:
        BadInput: it is another kind of model, or was trained for another task.
    """
    if model.kind != kind:
        raise BadInput(f"{setting} must be a model of kind {kind}, got one of kind {printable(model.kind)}")
    if task is not None and model.task is not None and model.task != task:
        raise BadInput(f"{setting} must be a model for the task {task}, got one for {printable(model.task)}")


def load_networks(
    path: Path, kind: str, build: Callable[[Model, str], Built], task: str | None = None, setting: str = "weights"
) -> Built:
    """Return the networks of a model file, which is read again only if it has changed.

    Args:
        path: of the file.
        kind: of the model that is needed.
        build: ``build(model, setting)`` returns the networks.
        task: that the model must be for; None for any.
        setting: name of the setting that names the file, for messages.

    Raises:
        BadInput: it is not a valid model file of the kind for the task.
    """
    model, built = _load_networks(path, digest_of(path), kind, build, setting)
    check_model(model, kind, task, setting)
    networks: Built = built
    return networks


@lru_cache(maxsize=4)
def _load_networks(
    path: Path, digest: str, kind: str, build: Callable[[Model, str], Any], setting: str
) -> tuple[Model, Any]:
    model = load_model(path, setting)
    check_model(model, kind, None, setting)
    return model, build(model, setting)


def settings_of(model: Model, group: type[Settings], setting: str = "weights") -> Any:
    """Return the settings of a model as an instance of their class, which checks the bounds.

    Raises:
        BadInput: a setting is missing, unknown or out of bounds.
    """
    try:
        return group(**model.settings)
    except (BadInput, TypeError) as error:
        raise BadInput(
            f"{setting} must be a model with valid settings, got {printable(model.settings)} ({printable(error)})",
            code="unreadable_input",
        ) from None


def build_network(build: Callable[[], Network], tensors: Mapping[str, Tensor], setting: str = "weights") -> Network:
    """Build a network with weights from a model file.

    Args:
        build: returns the network. It is called with the device ``meta``, on which weights take no memory, so that its
            size is limited by the file.
        tensors: the weights, by name.
        setting: name of the setting that names the file, for messages.

    Returns:
        The network on the CPU, in evaluation mode, without gradients.

    Raises:
        BadInput: the weights do not fit the network.
    """
    try:
        with torch.device("meta"):
            network = build()
    except RuntimeError as error:  # a size overflows
        raise BadInput(
            f"{setting} must be a model with valid settings, got sizes that cannot be built", code="unreadable_input"
        ) from error
    expected = network.state_dict()
    if expected.keys() != tensors.keys() or any(
        expected[name].shape != tensors[name].shape or expected[name].dtype != tensors[name].dtype for name in expected
    ):
        raise BadInput(
            f"{setting} must be a model whose weights fit its settings, got other tensors", code="unreadable_input"
        )
    network.load_state_dict(dict(tensors), strict=True, assign=True)
    return network.eval().requires_grad_(False)


def digest_of(path: Path) -> str:
    """Return a digest of the content of a file, in 16 characters; it is computed again if the file has changed."""
    if not path.is_file():
        return "missing"
    facts = path.stat()
    return _digest(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=16)
def _digest(path: Path, changed: int, size: int) -> str:
    return sha256_of(path)[:16]


def parameters(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of values of a network."""
    return sum(math.prod(tensor.shape) for tensor in tensors.values())
