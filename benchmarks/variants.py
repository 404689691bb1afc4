"""Parse variants of presets: ``"fast lr=0.002 crit=L1"``."""

from __future__ import annotations

from typing import Any

from dawp.config import Config


def config_of(variant: str, **defaults: Any) -> Config:
    """Return the settings of a variant of the task denoise; its settings override ``defaults``."""
    preset, *changes = variant.split()
    given = {name: parse_value(value) for name, value in (change.split("=") for change in changes)}
    return Config.of("denoise", preset, **{**defaults, **given})


def parse_value(text: str) -> Any:
    """Parse the value of a setting: a number, True, False, None, or text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "None": None}.get(text, text)
