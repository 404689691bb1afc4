"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dawp.errors import BadInput, printable

RUN_CONFIG, RESULT, OUTPUTS = "config.json", "result.json", "outputs"  # of a run, and of its repetitions
HOLDER = ".holder"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give out a temporary name beside ``path``; rename it to ``path`` if the block succeeds, else remove it.

    Raises:
        OSError: the file cannot be written; its ``filename`` is ``path``.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # else a loss of power could leave the name without the content
        temporary.replace(path)
    except OSError as error:
        # A write to an open file does not name it, and nobody knows the temporary name.
        named = {str(name) for name in (error.filename, error.filename2) if name is not None}
        if error.errno is not None and (not named or str(temporary) in named):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def changed_at(path: Path) -> float:
    """When a file was last written, in seconds since 1970; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as strict JSON."""
    with atomic_write(path) as temporary:
        temporary.write_text(f"{json_text(content)}\n", encoding="utf-8")


def json_text(content: Any) -> str:
    """``content`` as strict JSON: numbers stay numbers, NaN and infinity become null."""
    return json.dumps(_strict(content), indent=2, allow_nan=False)


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


def is_restored(path: Path) -> bool:
    """Whether a sound file is one that was restored: its record lies beside it."""
    try:
        about = read_json(path.with_name(f"{path.name}.json"))
        return "sha256" in about and "blocks" in about
    except (OSError, ValueError, TypeError):
        return False


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made, before anything is computed."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "no permission" if there.is_dir() else "not a folder"
        raise BadInput(f"{printable(folder)}: cannot be written ({printable(there)}: {why})")


@contextmanager
def exclusive_lock(folder: Path, what: Path | None = None) -> Iterator[None]:
    """Keep a folder for this command alone; the hold ends with the process, however that ends.

    Args:
        folder: which is there.
        what: it stands for in the message of a refusal; None for itself.

    Raises:
        BadInput: another command holds it; the message says which.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    refusal = f"{printable(what or folder)}: is in use by"
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{refusal} {_holder(folder)}") from None
        except OSError:  # a file system without such locks
            yield
            return
        if not folder.exists() or not os.path.samestat(os.fstat(handle), folder.stat()):
            raise BadInput(f"{refusal} another command")  # which has just put another folder in its place
        with atomic_write(folder / HOLDER) as temporary:
            temporary.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                os.unlink(HOLDER, dir_fd=handle)  # wherever the folder may be by now
    finally:
        os.close(handle)


def _holder(folder: Path) -> str:
    """Who holds a folder, in words."""
    try:
        return printable((folder / HOLDER).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return "another command"


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
