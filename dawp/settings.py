"""Fields of settings, with bounds and help text, and a base class that validates their values.

The settings are defined beside the code that uses them, with default, bounds and help text. The command line, the
library and docs/flags.md are generated from these classes.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from dawp.errors import BadInput, printable


def setting(
    default: Any,
    help: str | Callable[[], str],
    *,
    choices: tuple[str, ...] | Callable[[], Iterable[str]] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    none: str = "",
    none_word: str = "none",
    short: str | None = None,
    brief: str = "",
) -> Any:
    """Return a dataclass field with everything the command line needs.

    Args:
        default: the default value.
        help: help text; a function if it depends on a registry.
        choices: all allowed values; a function if they are the names in a registry.
        at_least: inclusive lower bound.
        above: exclusive lower bound.
        at_most: inclusive upper bound.
        below: exclusive upper bound.
        none: meaning of None.
        none_word: how None is written as a flag's value.
        short: a short flag, as ``-e``.
        brief: a few words for ``--help``, which lists only the settings that have them; ``--help_all`` lists all.
    """
    bounds = [
        (word, bound, test)
        for word, bound, test in (
            ("at least", at_least, operator.ge),
            ("above", above, operator.gt),
            ("at most", at_most, operator.le),
            ("below", below, operator.lt),
        )
        if bound is not None
    ]
    metadata = {
        "help": help,
        "choices": choices,
        "bounds": bounds,
        "none": none,
        "none_word": none_word,
        "short": short,
        "brief": brief,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Base of the groups of settings: validates every value on construction.

    Raises:
        BadInput: a value of the wrong kind or out of bounds; the message names the setting and the value.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _validated(field, type(self), getattr(self, field.name)))

    @classmethod
    def describe(cls) -> tuple[str, str]:
        """Return the title of the group and what its settings are for, from the docstring."""
        title, _, description = (cls.__doc__ or cls.__name__).partition(": ")
        return title, description

    def identity(self) -> dict[str, Any]:
        """Return the settings that the numbers of a run depend on."""
        return dataclasses.asdict(self)

    def check_use(self) -> None:
        """Check that the settings suffice for a method that uses the group (``methods.base.Method.groups``).

        Raises:
            BadInput: a setting that the method requires has no value.
        """


_types = cache(get_type_hints)  # evaluates all annotations of a group at each call


def kind_of(field: dataclasses.Field[Any], group: type) -> type[Any]:
    """The type of a setting's values, None aside."""
    annotation = _types(group)[field.name]
    if NoneType in get_args(annotation):
        annotation = next(part for part in get_args(annotation) if part is not NoneType)
    kind: type[Any] = get_origin(annotation) or annotation
    return kind


def may_be_none(field: dataclasses.Field[Any], group: type) -> bool:
    """Whether None is among a setting's values."""
    return NoneType in get_args(_types(group)[field.name])


def parse_value(field: dataclasses.Field[Any], group: type, text: str) -> Any:
    """Return the value of a setting from text, or the text, which the setting refuses, if it cannot be parsed.

    Example:
        >>> from dawp.methods.deep_prior.settings import FitConfig
        >>> fields = {field.name: field for field in dataclasses.fields(FitConfig)}
        >>> parse_value(fields["lr"], FitConfig, "1e-3"), parse_value(fields["normalize"], FitConfig, "false")
        (0.001, False)
    """
    kind = kind_of(field, group)
    if may_be_none(field, group) and text.lower() == field.metadata["none_word"]:
        return None
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in (Path, tuple):
        return text
    try:
        return kind(text)
    except ValueError:
        return text


def choices_of(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """Return all allowed values of a setting; empty if they are not listed."""
    choices = field.metadata["choices"]
    return tuple(choices() if callable(choices) else choices or ())


def help_of(field: dataclasses.Field[Any]) -> str:
    """Return what a setting does."""
    text = field.metadata["help"]
    return str(text() if callable(text) else text)


def flag_of(name: str, value: Any) -> str:
    """Return a setting as a flag of the command line.

    Example:
        >>> flag_of("glu", False), flag_of("lr", 0.001)
        ('--no_glu', '--lr 0.001')
    """
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no_{name}"
    if value is None:
        return f"--{name} {_none_word(name)}"
    return f"--{name} {','.join(map(text_of, value)) if isinstance(value, tuple | list) else text_of(value)}"


def text_of(value: Any) -> str:
    """Return a setting's value as a flag takes it and a table shows it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if value is None else str(value)


def _none_word(name: str) -> str:
    """The word that stands for None as the value of a setting."""
    fields = (field for group in _groups(Settings) for field in dataclasses.fields(group) if field.name == name)
    return next((field.metadata["none_word"] for field in fields), "none")


def _groups(base: type[Settings]) -> Iterator[type[Settings]]:
    for group in base.__subclasses__():
        yield group
        yield from _groups(group)


def _number(value: float) -> str:
    """Return a number without an exponent if it is whole."""
    return str(int(value)) if value == int(value) else f"{value:g}"


def _validated(field: dataclasses.Field[Any], group: type, value: Any) -> Any:
    """Return ``value`` in the setting's own type.

    Raises:
        BadInput: it has no such value, or it is out of bounds.
    """
    kind, bounds, choices = kind_of(field, group), field.metadata["bounds"], choices_of(field)
    none_word = field.metadata["none_word"]
    if may_be_none(field, group) and (value is None or (isinstance(value, str) and value == none_word != "none")):
        return None
    words = {
        **{int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"},
        tuple: "three numbers X,Y,Z, each",
    }
    expected = f"one of {', '.join(choices)}" if choices else words[kind]
    expected += "".join(f"{' and' if i else ''} {word} {_number(bound)}" for i, (word, bound, _) in enumerate(bounds))
    if field.metadata["none"]:
        expected += f", or {none_word} ({field.metadata['none']})"
    refusal = BadInput(f"{field.name} must be {expected}, got {printable(value)}")

    if kind is Path and isinstance(value, str) and value:
        value = Path(value)
    if kind is tuple:
        value = _parse_triple(value, refusal)
    if isinstance(value, numbers.Number) and not isinstance(value, bool):  # numpy's numbers, too
        if kind is float and isinstance(value, numbers.Real):
            try:
                value = float(value)
            except OverflowError:  # a whole number beyond all floats
                raise refusal from None
        if kind is int and isinstance(value, numbers.Integral):
            value = int(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise refusal
    if choices and value not in choices:
        raise refusal
    for number in value if kind is tuple else [value]:
        if isinstance(number, float) and not math.isfinite(number):
            raise refusal
        if not all(test(number, bound) for _, bound, test in bounds):
            raise refusal
    return value


def _parse_triple(value: Any, refusal: BadInput) -> tuple[float, float, float]:
    """Parse three numbers from a sequence, or from text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        x, y, z = (float(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        raise refusal from None
    return x, y, z
