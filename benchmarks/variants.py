"""Variants of presets, as the benchmarks take them: ``"fast lr=0.002 crit=L1"``."""

from __future__ import annotations

from typing import Any

from dawp.config import Config


def config_of(variant: str, **defaults: Any) -> Config:
    """The settings of a variant for the task denoise: a preset and changed settings, over ``defaults``."""
    preset, *changes = variant.split()
    given = {name: parsed(value) for name, value in (change.split("=") for change in changes)}
    return Config.of("denoise", preset, **{**defaults, **given})


def parsed(text: str) -> Any:
    """A setting's value: a number, True, False, None, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "None": None}.get(text, text)
