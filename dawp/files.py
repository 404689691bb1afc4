"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RUN_CONFIG = "config.json"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give out a temporary name beside ``path``; rename it to ``path`` if the block succeeds, else remove it."""
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as strict JSON: numbers stay numbers, NaN and infinity become null."""
    with whole(path) as temporary:
        temporary.write_text(json.dumps(_strict(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def run_identity(folder: Path) -> dict[str, Any] | None:
    """What the numbers of the run in a folder depend on, from its config.json; None if the folder holds no run."""
    try:
        about = read_json(folder / RUN_CONFIG)
        identity: dict[str, Any] = about["identity"]
        return identity if about["task"] == identity["task"] and "recordings" in identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def safe_name(name: str, longest: int = 40) -> str:
    """``name`` fit for one folder or file, of at most ``longest`` bytes.

    Letters, digits, dots, dashes and underscores are left; it is never hidden or empty.

    Example:
        >>> safe_name("../my take <1>")
        'my_take_1'
    """
    safe = re.sub(r"[^\w.-]+", "_", name).encode()[:longest].decode(errors="ignore")
    return safe.strip("._-") or "recording"


def _strict(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _strict(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_strict(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return str(content) if isinstance(content, Path) else content
