"""Tests of panels: CSV files with one recording, and its own settings, in each row."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY_FLAGS, call_main, write_sound

from dawp.io.panels import is_panel, read_panel

WORK = ("--workers", "1")


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three noisy recordings."""
    for number, name in enumerate(("a.wav", "b.wav", "sub/c d.flac")):
        samples = torch.randn(8000, generator=torch.Generator().manual_seed(number)) * 0.1
        write_sound(tmp_path / name, samples + 0.3 * torch.sin(torch.arange(8000) / 5))
    return tmp_path


def write_panel(folder, *lines, name="test.csv", encoding="utf-8"):
    (folder / name).write_bytes("\n".join([*lines, ""]).encode(encoding))


def restore(folder, *flags, task="denoise"):
    return call_main(task, ["--restore", *WORK, "--source", "test.csv", *map(str, flags)], folder)


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def results_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def sound(path):
    return soundfile.read(path)[0]


def test_each_row_is_restored_with_its_own_settings(folder):
    write_panel(
        folder,
        "file, method, strength, snr, panel, out",
        'a.wav,wiener,0.5,10,,""',
        "",
        '"sub/c d.flac",,,,loud,again/x.wav',
        "a.wav,log_mmse,,,loud,again",
    )
    process = restore(folder, "-o", "done", "--method", "noisereduce")
    assert process.returncode == 0, process.stderr
    outputs = {"test/a.wav": 2, "loud/again/x.wav": 4, "loud/again/a.wav": 5}
    expected = [name for output in outputs for name in (output, f"{output}.json")]
    assert files_in(folder / "done") == sorted([*expected, "test_results.csv"])
    assert "column snr has no effect" in process.stderr
    rows = results_of(folder / "done" / "test_results.csv")
    assert [(int(row["line"]), row["output"], row["status"]) for row in rows] == [
        (line, output, "restored") for output, line in outputs.items()
    ]
    assert [row["file"] for row in rows] == ["a.wav", "sub/c d.flac", "a.wav"]
    assert all(float(row["seconds"]) > 0 and float(row["removed_db"]) < 0 for row in rows)
    for output, flags in (
        ("test/a.wav", ("--source", "a.wav", "--method", "wiener", "--strength", 0.5)),
        ("loud/again/x.wav", ("--source", "sub/c d.flac", "--method", "noisereduce")),
        ("loud/again/a.wav", ("--source", "a.wav", "--method", "log_mmse")),
    ):
        assert restore(folder, *flags, "-o", "alone.wav", "--overwrite").returncode == 0
        assert np.array_equal(sound(folder / "alone.wav"), sound(folder / "done" / output))


def test_finished_rows_are_skipped_and_bad_recordings_reported(folder):
    write_sound(folder / "silent.wav", torch.zeros(8000))
    write_panel(folder, "file,method", "a.wav,wiener", "silent.wav,wiener", "b.wav,wiener")
    process = restore(folder, "-o", "done", "--json")
    assert process.returncode == 3
    outcome = json.loads(process.stdout)
    assert (outcome["done"], outcome["folder"], outcome["failure_codes"]) == (2, "done", ["unusable_recording"])
    rows = results_of(folder / "done" / "test_results.csv")
    assert [row["status"] for row in rows] == ["restored", "failed", "restored"]
    assert "silent.wav" in rows[1]["error"]
    first = (folder / "done" / "test" / "a.wav").read_bytes()
    assert restore(folder, "-o", "done").returncode == 3
    rows = results_of(folder / "done" / "test_results.csv")
    assert [row["status"] for row in rows] == ["skipped", "failed", "skipped"]
    assert (folder / "done" / "test" / "a.wav").read_bytes() == first


def test_a_row_may_have_its_own_chain(folder):
    write_panel(
        folder, "file,corrupt", 'a.wav,"declip | denoise:method=wiener,strength=0.5"', "b.wav,denoise:method=wiener"
    )
    process = restore(folder, "-o", "done", task="chain")
    assert process.returncode == 0, process.stderr
    records = [json.loads((folder / "done" / "test" / f"{name}.wav.json").read_text()) for name in "ab"]
    assert [len(record.get("stages", [])) for record in records] == [1, 0]
    assert not list((folder / "done" / "test").glob(".*"))


def test_outputs_have_the_format_and_the_removed_signal(folder):
    write_panel(folder, "file,method,output_format,subtype", "a.wav,wiener,flac,PCM_24")
    process = restore(folder, "-o", "done", "--save_removed", "removed")
    assert process.returncode == 0, process.stderr
    assert soundfile.info(folder / "done" / "test" / "a.flac").subtype == "PCM_24"
    assert (folder / "removed" / "test" / "a.flac").exists()


def test_rows_are_corrupted_with_their_own_settings(folder):
    write_panel(folder, "file,snr,out", "a.wav,0,low.wav", "a.wav,30,high.wav")
    process = call_main("denoise", ["--corrupt_only", "--source", "test.csv", "-o", "bad"], folder)
    assert process.returncode == 0, process.stderr
    assert files_in(folder / "bad") == ["test/high.wav", "test/low.wav"]
    clean = sound(folder / "a.wav")
    correlations = [
        np.corrcoef(clean, sound(folder / "bad" / "test" / f"{name}.wav"))[0, 1] for name in ("low", "high")
    ]
    assert correlations[0] < 0.8 < 0.99 < correlations[1]
    assert call_main("denoise", ["--corrupt_only", "--source", "test.csv", "-o", "bad"], folder).returncode == 2


def test_rows_are_experiments_with_their_own_settings(folder):
    write_panel(folder, "file,snr,panel,out", "a.wav,0,,", "a.wav,20,p2,high", "sub/c d.flac,,p2,")
    flags = [*TINY_FLAGS, "--source", "test.csv", "--clip_length", "0.2"]
    process = call_main("denoise", flags, folder)
    assert process.returncode == 0, process.stderr
    rows = results_of(folder / "evals" / "test_results.csv")
    assert [row["run"] for row in rows] == ["test/denoise/a", "p2/denoise/high", "p2/denoise/c_d"]
    assert [float(row["input_si_snr"]) for row in rows] == pytest.approx([0, 20, 2.5], abs=1)
    assert [row["file"] for row in rows] == ["a.wav", "a.wav", "sub/c d.flac"]
    config = json.loads((folder / "evals" / "p2" / "denoise" / "high" / "config.json").read_text())
    assert config["identity"]["snr"] == 20
    assert call_main("denoise", flags, folder).returncode == 0
    assert results_of(folder / "evals" / "test_results.csv") == rows


BAD = {
    "no rows": (["file,snr"], "no rows"),
    "missing file": (["file,snr", "a.wav,1", "", "nowhere.wav,2"], "line 4"),
    "a folder": (["file", "sub"], "line 2"),
    "no file": (["file,snr", ",3"], "line 2"),
    "unknown column": (["file,snrr", "a.wav,"], "line 1"),
    "column of another task": (["file,gap_ms", "a.wav,1"], "line 1"),
    "column of the command": (["file,output", "a.wav,x.wav"], "line 1"),
    "overwrite": (["file,overwrite", "a.wav,true"], "line 1"),
    "device": (["file,device", "a.wav,cpu"], "line 1"),
    "preset": (["file,preset", "a.wav,fast"], "line 1: preset"),
    "column twice": (["file,snr,snr", "a.wav,1,2"], "line 1"),
    "unnamed column": (["file,,snr", "a.wav,1,2"], "line 1"),
    "hostile column": (["file,sn\x1br", "a.wav,1"], "line 1"),
    "too few cells": (["file,snr", "a.wav,1", "b.wav"], "line 3"),
    "too many cells": (["file,snr", "a.wav,1,2"], "line 2"),
    "open quote": (["file,snr", 'a.wav,"1'], "line"),
    "text after a quote": (["file,snr", '"a.wav"x,1'], "line 2"),
    "bad number": (["file,strength", "a.wav,1", "b.wav,2"], "line 3"),
    "not a number": (["file,strength", "a.wav,nan"], "line 2"),
    "bad switch": (["file,normalize", "a.wav,perhaps"], "line 2"),
    "bad method": (["file,method", "a.wav,a_spade"], "line 2"),
    "same name": (["file", "a.wav", "a.wav"], "line 3"),
    "same output": (["file,out", "a.wav,x.wav", "b.wav,x.wav"], "line 3"),
    "same output in two ways": (["file,out,panel", "a.wav,x,", "b.wav,x/a.wav,", "b.wav,a.wav,test/x"], "line 3"),
    "output inside an output": (["file,out", "a.wav,x.wav", "b.wav,x.wav/y.wav"], "line 3"),
    "output inside a record": (["file,out", "a.wav,x.wav", "b.wav,x.wav.json/y.wav"], "line 3"),
    "output inside the results": (["file,panel", "a.wav,test_results.csv"], "line 2"),
    "another suffix": (["file,out,output_format", "a.wav,x.wav,flac"], "line 2"),
    "long name": (["file,out", f"a.wav,{'x' * 250}.wav"], "line 2"),
    "long path": (["file,out", f"a.wav,{'x/' * 3000}y.wav"], ""),
    **{
        f"{column} {place!r}": ([f"file,{column}", f"a.wav,{place}"], "line 2")
        for column in ("out", "panel")
        for place in (
            *("../x.wav", "x/../../y.wav", "/tmp/x.wav", "..", ".", "./x.wav", "x//y.wav", "x/", ".hidden.wav"),
            *("a\x07.wav", "a\x1b[2J.wav", "C:/x.wav", "..\\x.wav", "\u202egpj.wav", "x/ ../y.wav"),
        )
    },
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_panel_is_refused_before_any_compute(name, folder):
    lines, where = BAD[name]
    write_panel(folder, *lines)
    before = files_in(folder)
    process = restore(folder, "-o", "done", "--method", "wiener")
    assert (process.returncode, process.stdout) == (2, ""), process.stderr
    assert process.stderr.count("\n") == 1
    assert process.stderr[:-1].isprintable()
    assert where in process.stderr
    assert files_in(folder) == before
    assert not (folder / "done").exists()


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_panel_must_be_utf8(encoding, folder):
    write_panel(folder, "file,out", "a.wav,ä.wav", encoding=encoding)
    process = restore(folder)
    assert (process.returncode, process.stdout) == (2, "")


def test_a_panel_of_a_spreadsheet_is_read(folder):
    (folder / "test.csv").write_bytes(b'\xef\xbb\xbffile,method\r\n"a.wav",wiener\r\n,\r\n')
    panel = read_panel(folder / "test.csv")
    assert [(row.line, row.path, row.panel, row.settings) for row in panel.rows] == [
        (2, folder / "a.wav", "test", {"method": "wiener"})
    ]


def test_lists_are_not_panels(folder):
    (folder / "a.wav").rename(folder / "file")
    for text in ("a.wav\nb.wav\n", "a.wav,b.wav\n", "", "file\n", "# file,x\na.wav\n", "file.wav,b.wav\n"):
        (folder / "list.csv").write_text(text)
        assert not is_panel(folder / "list.csv")
    (folder / "list.txt").write_text("file,snr\na.wav,1\n")
    assert not is_panel(folder / "list.txt")
    assert not is_panel(None)
    assert not is_panel(folder)


@pytest.mark.parametrize("flags", [("-o", "x.wav"), ("-o", "a.wav"), ("-o", "done", "--save_removed", "x.wav")])
def test_a_panel_needs_folders(flags, folder):
    write_panel(folder, "file,method", "a.wav,wiener")
    process = restore(folder, *flags)
    assert (process.returncode, process.stdout) == (2, "")
    assert "folder" in process.stderr


def test_a_recording_is_not_an_output(folder):
    write_panel(
        folder, "file,method,panel,out", "a.wav,wiener,sub,x.wav", "b.wav,wiener,sub,c d.flac", "sub/c d.flac,,,"
    )
    before = (folder / "sub" / "c d.flac").read_bytes()
    assert restore(folder, "-o", ".", "--overwrite").returncode == 2
    assert (folder / "sub" / "c d.flac").read_bytes() == before
    write_panel(folder, "file,method,panel", "a.wav,wiener,x", "a.wav,wiener,b.wav")
    assert restore(folder, "-o", ".").returncode == 2
    assert not (folder / "x").exists()


def test_a_file_in_the_place_of_the_results_is_kept(folder):
    write_panel(folder, "file,method", "a.wav,wiener")
    (folder / "test_results.csv").write_text("my,notes\n")
    assert restore(folder, "-o", ".").returncode == 2
    assert (folder / "test_results.csv").read_text() == "my,notes\n"
    assert not (folder / "test").exists()
    assert restore(folder, "-o", ".", "--overwrite").returncode == 0
    assert results_of(folder / "test_results.csv")[0]["status"] == "restored"


@pytest.mark.parametrize(
    ("lines", "flags"),
    [
        (["file,out", "a.wav,x", "b.wav,x"], ()),
        (["file,out", "a.wav,x/y"], ()),
        (["file,panel,out", "a.wav,p,x", "b.wav,p/dereverb/x,y"], ()),
        (["file,panel", "a.wav,test_results.csv"], ()),
        (["file", "a.wav"], ("--name", "x")),
        (["file", "a.wav"], ("--tensorboard", "x")),
        (["file,name", "a.wav,x"], ()),
        (["file,rir", "a.wav,b.wav"], ()),
    ],
)
def test_a_bad_panel_of_experiments_is_refused(lines, flags, folder):
    write_panel(folder, *lines)
    process = call_main("dereverb", [*TINY_FLAGS, "--source", "test.csv", *flags], folder)
    assert (process.returncode, process.stdout) == (2, ""), process.stderr
    assert process.stderr.count("\n") == 1
    assert not (folder / "evals").exists()
