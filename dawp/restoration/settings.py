"""Settings of the restoration of whole recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dawp.errors import BadInput, printable
from dawp.methods.base import DEEP_PRIOR, METHODS
from dawp.settings import Settings, setting
from dawp.tasks.base import TASKS


def _blocks_of_methods() -> str:
    """Describe the methods that change the default of ``block``."""
    names: dict[float, dict[str, None]] = {}  # a method of several tasks is listed once
    for method in (method for of_task in METHODS.values() for method in of_task.values()):
        if "block" in method.settings:
            names.setdefault(method.settings["block"], {})[method.name] = None
    return "".join(f"; {length:g} with {', '.join(methods)}" for length, methods in names.items())


def _default_methods() -> str:
    """Describe the methods that preset restore selects."""
    defaults = {task.name: task.preset("restore").get("method", DEEP_PRIOR) for task in TASKS.values()}
    return ", ".join(f"{method} for {task}" for task, method in defaults.items())


@dataclass(frozen=True)
class RestoreConfig(Settings):
    """Restore: whole recordings that have no clean version, one output file each."""

    restore: bool = setting(
        False,
        "restore corrupted recordings (the second file of each pair) without corrupting them: whole, at their own "
        "sample rate and with all channels",
        brief="restore damaged recordings",
    )
    corrupt_only: bool = setting(
        False,
        "only corrupt the clean recordings of the source and write them to --output: whole, at their own sample rate "
        "and with all channels",
        brief="only write corrupted recordings to --output",
    )
    method: str = setting(
        DEEP_PRIOR,
        lambda: (
            f"restoration method: {DEEP_PRIOR}, the network, or a classical method, which needs no fit ("
            + "; ".join(f"{task}: {', '.join(methods)}" for task, methods in METHODS.items())
            + f"); the default of --restore is {_default_methods()}"
        ),
        brief="restoration method",
    )
    output: Path | None = setting(
        None,
        "output file for one recording, or output folder for several, with the tree of the source; an unfinished "
        "restoration is resumed, a finished one is only replaced with --overwrite",
        none="the folder restored",
        short="-o",
        brief="restored file, or folder for several",
    )
    output_format: str | None = setting(
        None,
        "format of the restored files",
        choices=("wav", "flac", "ogg"),
        none="by the suffix of --output, or else that of the recording",
    )
    subtype: str | None = setting(
        None,
        "sample type of the restored files, e.g. PCM_16, PCM_24 or FLOAT",
        none="that of the recording, or the nearest",
    )
    strength: float = setting(
        1.0,
        "fraction of the correction that is applied (all tasks but inpaint): 1 applies the full restoration, 0 returns "
        "the recording",
        at_least=0,
        at_most=1,
        brief="fraction of the correction to apply, 0 to 1",
    )
    save_removed: Path | None = setting(
        None,
        "also write the removed signal (the recording minus the restored samples before --clip_mode) to this file, or, "
        "for several recordings, to files in this folder",
        none="not written",
    )
    clip_mode: str = setting(
        "rescale",
        "how to handle clipping in integer formats: rescale the whole file, or clamp samples to full scale",
        choices=("rescale", "clamp"),
    )
    block: float = setting(
        4.0,
        lambda: (
            "maximum length in seconds of the blocks of a recording, which are restored separately"
            + _blocks_of_methods()
        ),
        above=0,
        at_most=600,
    )
    overlap: float = setting(
        0.5, "overlap of adjacent blocks in seconds, with a linear cross-fade", at_least=0, at_most=300
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.corrupt_only and self.restore:
            raise BadInput("corrupt_only cannot be combined with --restore")
        if self.corrupt_only and self.output is None:
            raise BadInput("corrupt_only needs --output")
        if self.output is not None and not (self.restore or self.corrupt_only):
            raise BadInput(f"output needs --restore or --corrupt_only, got {printable(self.output)}")
        if self.method != DEEP_PRIOR and not self.restore:
            raise BadInput(
                f"method needs --restore, got {printable(self.method)}; --baselines evaluates classical methods"
            )
        if self.save_removed is not None and not self.restore:
            raise BadInput(f"save_removed needs --restore, got {printable(self.save_removed)}")
        if self.overlap > self.block / 2:
            raise BadInput(f"overlap must be at most half the block of {self.block:g} s, got {self.overlap:g}")

    def identity(self) -> dict[str, Any]:
        return super().identity() if self.restore else {}
