"""Restore a recording in stages: each task of a chain restores the output of the one before."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dawp.config import Config
from dawp.errors import printable
from dawp.groups import NOT_OF_THE_NUMBERS
from dawp.io.files import read_json, sha256_of
from dawp.restoration.block_cache import cache_folder
from dawp.restoration.targets import ChainStage, Target

log = logging.getLogger(__name__)

OUTPUT_SETTINGS = (
    "source",
    "overwrite",
    "restore",
    "output",
    "output_format",
    "subtype",
    "clip_mode",
    "save_removed",
    "metrics",
    *NOT_OF_THE_NUMBERS,
)
"""Settings that the restored samples do not depend on."""


def sample_settings(config: Config) -> dict[str, Any]:
    """Return the settings that the restored samples depend on."""
    return {name: value for name, value in config.effective().items() if name not in OUTPUT_SETTINGS}


class Chain:
    """The stages of the restoration of one recording: one, or those of a chain.

    The intermediate outputs are WAV files of floating-point samples in a hidden folder beside the output.

    Args:
        target: the recording and its output.
        config: all settings.
    """

    def __init__(self, target: Target, config: Config) -> None:
        self._target, self._config, self._stages = target, config, config.stages

    def __len__(self) -> int:
        return len(self._stages)

    def stage(self, number: int) -> tuple[Target, Config] | None:
        """Return what to restore in a stage, and its settings; None if there is nothing to do."""
        target, config, last = self._target, self._config, len(self) - 1
        if number > last:
            return None
        if self._stages == [config]:
            return target, config
        is_skipped = target.output.exists() and not config.run.overwrite
        path = target.path if number == 0 or is_skipped else self._intermediate(number - 1)
        has_failed = number > 0 and not path.exists()  # in an earlier stage
        if has_failed or (number < last and is_skipped):
            return None
        stage = self._stages[number]
        label = f"stage {number + 1} of {len(self)}, {stage.task}"
        if number < last and self._intermediate(number).exists():
            log.info("%s, %s: done by an earlier command", printable(target.path), label)
            return None
        if number < last:
            return (
                Target(
                    path,
                    self._intermediate(number),
                    None,
                    ChainStage(target.path, label, self._folder, target.output, False, {}),
                ),
                replace(stage, restoration=replace(stage.restoration, subtype="FLOAT")),
            )
        given = config.restoration
        return (
            replace(
                target,
                path=path,
                stage=ChainStage(target.path, label, self._folder, target.output, True, self._record()),
            ),
            replace(
                stage,
                run=config.run,
                metrics=config.metrics,
                restoration=replace(stage.restoration, subtype=given.subtype, clip_mode=given.clip_mode),
            ),
        )

    def _record(self) -> dict[str, Any]:
        """Return the entries of the record of the output that differ from those of its last stage."""
        records = []
        for number in range(len(self) - 1):
            with suppress(OSError, ValueError):
                intermediate = self._intermediate(number)
                records.append(read_json(intermediate.with_name(f"{intermediate.name}.json")))
        return {
            "recording": str(self._target.path),
            "sha256": self._sha256,
            "task": self._config.task,
            "preset": self._config.preset,
            "settings": sample_settings(self._config),
            "stages": records,
        }

    def _intermediate(self, number: int) -> Path:
        return self._folder / f"{number + 1}_{self._stages[number].task}.wav"

    @cached_property
    def _sha256(self) -> str:
        try:
            return sha256_of(self._target.path)
        except OSError:  # the first stage reports it
            return ""

    @cached_property
    def _folder(self) -> Path:
        """The folder of the intermediate outputs, named after everything that they depend on."""
        settings = [sample_settings(stage) for stage in self._stages]
        paths = [value for stage in settings for value in stage.values() if isinstance(value, Path)]
        files = [sha256_of(path) for path in paths if path.is_file()]
        identity = json.dumps([self._sha256, settings, files, torch.__version__], sort_keys=True, default=str)
        return cache_folder(self._target.output) / f"stages-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
