import json
import math
import pickle

import pytest

from dawp.errors import os_error_line
from dawp.io.files import atomic_write, read_json, safe_name, write_json


def test_files_are_written_atomically(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_failed_write_names_the_file(tmp_path):
    path, other = tmp_path / "x.txt", tmp_path / "other.txt"
    for what in ((28, "full"), (28, "full", str(tmp_path / "temporary"))):
        with pytest.raises(OSError) as failure, atomic_write(path) as temporary:
            raise OSError(*[str(temporary) if part == str(tmp_path / "temporary") else part for part in what])
        assert os_error_line(pickle.loads(pickle.dumps(failure.value))) == f"{path}: full"
    with pytest.raises(OSError) as failure, atomic_write(path):
        other.read_bytes()
    assert failure.value.filename == str(other)
    with pytest.raises(OSError, match="by itself") as failure, atomic_write(path):
        raise OSError("by itself")
    assert os_error_line(failure.value) == "by itself"


def test_json_is_strict(tmp_path):
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [math.inf, 1, 0.5], "c": tmp_path, "d": None})

    def refuse(constant):
        raise AssertionError(constant)

    parsed = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
    assert parsed == read_json(tmp_path / "x.json") == {"a": None, "b": [None, 1, 0.5], "c": str(tmp_path), "d": None}


def test_safe_names_stay_in_their_folder():
    for name in ("../../etc/passwd", "/abs", "..", ".", "", "a/b\\c", "nul\0", "-rf", "x" * 300):
        safe = safe_name(name)
        assert safe
        assert safe[0] not in ".-"
        assert not set(safe) & set("/\\\0")
        assert len(safe) <= 40
