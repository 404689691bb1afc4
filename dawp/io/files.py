"""Atomic file writes, locks and file names."""

from __future__ import annotations

import csv
import hashlib
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

RUN_CONFIG, RESULT, OUTPUTS = "config.json", "result.json", "outputs"  # names in the folders of runs and repetitions
HOLDER = ".holder"
HASH_CHUNK = 1 << 20  # bytes


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds, else delete it.

    Raises:
        OSError: the file cannot be written; its ``filename`` is ``path``.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # otherwise a power failure could leave an empty file
        temporary.replace(path)
    except OSError as error:
        # An error of a write to an open file names no file, and the user does not know the temporary name.
        named = {str(name) for name in (error.filename, error.filename2) if name is not None}
        if error.errno is not None and (not named or str(temporary) in named):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def changed_at(path: Path) -> float:
    """Return the modification time of a file in seconds since 1970; 0 if it does not exist."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the content of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as strict JSON."""
    with atomic_write(path) as temporary:
        temporary.write_text(f"{json_text(content)}\n", encoding="utf-8")


def json_text(content: Any) -> str:
    """Return ``content`` as strict JSON; NaN and infinity become null."""
    return json.dumps(_strict(content), indent=2, allow_nan=False)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def run_identity(folder: Path) -> dict[str, Any] | None:
    """Read what the results of a run depend on from its config.json; None if the folder is not a run folder."""
    try:
        about = read_json(folder / RUN_CONFIG)
        identity: dict[str, Any] = about["identity"]
        return identity if about["task"] == identity["task"] and "recordings" in identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_restored(path: Path) -> bool:
    """Return whether a sound file has a restoration record beside it."""
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
    """Check before any computation that a folder exists or can be created, and is writable.

    Raises:
        BadInput: it is not.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        why = "no permission" if existing.is_dir() else "not a folder"
        raise BadInput(f"{printable(folder)}: cannot be written ({printable(existing)}: {why})", code="io_error")


@contextmanager
def exclusive_lock(folder: Path, what: Path | None = None) -> Iterator[None]:
    """Lock a folder for this process; the lock is released when the process ends for any reason.

    Args:
        folder: an existing folder.
        what: path to name in the error message; None for the folder.

    Raises:
        BadInput: another process holds the lock; the message names it.
    """
    try:
        import fcntl
    except ImportError:  # this system has no such locks
        yield
        return
    refusal = f"{printable(what or folder)}: is in use by"
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{refusal} {_holder(folder)}", code="in_use") from None
        except OSError:  # this file system has no such locks
            yield
            return
        if not folder.exists() or not os.path.samestat(os.fstat(handle), folder.stat()):
            raise BadInput(f"{refusal} another command", code="in_use")  # which has just replaced the folder
        with atomic_write(folder / HOLDER) as temporary:
            temporary.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                os.unlink(HOLDER, dir_fd=handle)  # by descriptor, because the folder may have been moved
    finally:
        os.close(handle)


def _holder(folder: Path) -> str:
    """Describe the process that holds the lock of a folder."""
    try:
        return printable((folder / HOLDER).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return "another command"


def safe_name(name: str, longest: int = 40) -> str:
    """Convert ``name`` to a valid name of a folder or file, of at most ``longest`` bytes.

    Letters, digits, dots, dashes and underscores are kept. The result is never hidden or empty.

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
