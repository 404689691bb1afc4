"""Tests of ``dawp.paper``: tiny runs of each study, verdicts on claims, and data set layouts."""

import csv
import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SAMPLES, environment, refused_as, write_sound
from matplotlib.image import imread

from dawp.config import Config
from dawp.errors import BadInput
from dawp.groups import groups_of
from dawp.paper import datasets, readings, runs, show
from dawp.paper.command import NOT_OFFERED, STUDIES, main
from dawp.paper.study import (
    FAILS,
    HOLDS,
    NOT_RUN,
    UNDECIDED,
    WITHIN,
    About,
    Cell,
    Claim,
    Fit,
    Measure,
    Size,
    Study,
    Values,
)
from dawp.report import pictures
from dawp.settings import choices_of, kind_of

NETWORK = "--depth 1 --lstm_layers 1".split()  # for studies whose cells do not set the network
TINY = (
    "--channels 4 --no_resample --waveunet_levels 2 --waveunet_filters 2 --clip_length 0.5 "
    "--epochs 2 --pesq_every 2 --device cpu --workers 1 --no_report --no_pictures"
).split()
"""Smallest values of the settings that no cell sets, except the network."""


EMPTY_ABOUT = About("A REDUCED RUN", [], Size(1, 2), {})


def run_script(tmp_path, name, *flags, python=f'exec "{sys.executable}" "$@"'):
    """Run a script unchanged, with a shell command (by default this Python) instead of the Python that it installs."""
    for path, text in (("scripts/setup.sh", "true"), (".venv/bin/python", python)):
        (tmp_path / "tool" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tool" / path).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / "tool" / path).chmod(0o755)
    script = tmp_path / "tool/scripts" / f"{name}.sh"
    script.write_bytes((ROOT / "scripts" / script.name).read_bytes())
    env = {**environment(), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", script, *map(str, flags)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )


def stamps(evals):
    return {path: path.stat().st_mtime_ns for path in evals.glob("*/*/*/result.json")}


@pytest.mark.parametrize("name", STUDIES)
def test_each_script_runs_its_study_with_its_flags(name, tmp_path):
    result = run_script(tmp_path, name, "--clips", "1 2", python='printf "%s\\n" "$@"')
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["-m", "dawp.paper", name, "--clips", "1 2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_each_study_runs_and_a_second_run_repeats_nothing(name, tmp_path, monkeypatch, capsys):
    study = STUDIES[name]
    clips = 1
    free = [flag for flag in TINY if (name, flag) != ("readings", "--no_resample")]  # its cells set it
    flags = [*free, *([] if "depth" in study.own_settings else NETWORK), "--clips", str(clips)]
    monkeypatch.chdir(tmp_path)
    assert main([name, *flags]) == 0
    shown = capsys.readouterr().out
    assert f"# {study.title}" in shown
    published = "1 clip" if name in ("figure2", "figure4", "figure5") else "20 clips"
    where = "in full" if name == "readings" else "the paper"
    size = f"A REDUCED RUN: 1 clip a cell, 2 epochs ({where}: {published} a cell, 3000 epochs)"
    assert f"- {size}; preset paper\n" in shown
    assert "- sounds: speech from the bundled clips (synthetic, not the paper's data)" in shown
    every_kind = name in ("table1", "table2", "figure3")  # the others use speech only
    assert ("singing from the bundled clips" in shown) == every_kind
    assert f"- made by: python -m dawp.paper {name} {' '.join(flags)}" in shown
    for claim in study.claims:
        assert claim.text in shown
    to = tmp_path / "evals/paper"
    assert {path.name for path in to.iterdir()} == {f"{name}{suffix}" for suffix in (".md", ".csv", ".json", ".png")}
    assert imread(to / f"{name}.png").std() > 0.02
    with (to / f"{name}.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert len(lines) == len(study.cells)
    assert len(header) == len(set(header)) == len(lines[0])
    assert header[1:5] == ["clips", "clips in full", "epochs", "epochs in full"]
    facts = json.loads((to / f"{name}.json").read_text())
    assert facts["about"][0].startswith(size)
    assert facts["size"] == {"clips": 1, "epochs": 2}
    for cell, line, content in zip(study.cells, lines, facts["cells"], strict=True):
        assert line[0] == cell.title
        assert line[1:5] == ["1", published.split()[0], "2", "3000"]
        assert content["best"].keys() == content["clips"][study.measures[0].title].keys()
        assert all(best["si_snr"]["epoch"] in (1, 2) for best in content["best"].values())
        mean = line[header.index(f"{study.measures[0].title} mean")]
        values = [value for value in content["clips"][study.measures[0].title].values() if value is not None]
        assert (float(mean) if mean else None) == (pytest.approx(sum(values) / len(values)) if values else None)

    before = stamps(tmp_path / "evals")
    assert len(before) == clips * len(study.cells)
    assert main([name, *flags, "--quiet"]) == 0
    assert capsys.readouterr().out == "evals/paper\n"
    assert stamps(tmp_path / "evals") == before


@pytest.mark.slow
def test_spectrograms_of_figure_4_have_axes_in_seconds_and_hertz(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = []
    assert main(["figure2", *TINY, "--clips", "1"]) == 0
    monkeypatch.setattr(pictures, "save", lambda figure, to: figures.append(figure))
    assert main(["figure4", *TINY, "--clips", "1", "--finished_only"]) == 0
    assert figures[0].get_suptitle().startswith("A REDUCED RUN: 1 clip a cell, 2 epochs (the paper: 1 clip a cell, ")
    *panels, _ = figures[0].axes  # the last one is the colour bar
    assert [axis.get_title(loc="left") for axis in panels] == ["corrupted", "best (oracle SI-SNR)", "clean"]
    for axis in panels:
        assert axis.get_xlim() == pytest.approx((0, 0.5), abs=0.01)
        assert axis.get_ylim() == pytest.approx((0, 8000), abs=50)
    assert (panels[-1].get_xlabel(), panels[0].get_ylabel()) == ("time (s)", "frequency (Hz)")


@pytest.mark.slow
def test_interrupted_table_resumes_with_the_missing_fits(tmp_path, monkeypatch):
    from dawp.runs import repetition

    monkeypatch.chdir(tmp_path)
    flags = ["table3", *TINY, "--clips", "1"]
    result_json, count = repetition.write_json, 0

    def interrupted(path, content):
        nonlocal count
        count += path.name == "result.json"
        if count == 4:
            raise KeyboardInterrupt
        result_json(path, content)

    monkeypatch.setattr(repetition, "write_json", interrupted)
    assert main(flags) == 130
    before = stamps(tmp_path / "evals")
    assert len(before) == 3
    assert main([*flags, "--finished_only"]) == 0
    assert stamps(tmp_path / "evals") == before
    report = (tmp_path / "evals/paper/table3.md").read_text()
    assert report.count("not run |") == len(STUDIES["table3"].cells) - 3
    assert "**not run**: LSTM helps" in report
    monkeypatch.setattr(repetition, "write_json", result_json)
    assert main(flags) == 0
    after = stamps(tmp_path / "evals")
    assert len(after) == len(STUDIES["table3"].cells)
    assert {path: after[path] for path in before} == before
    larger = [*flags[:-1], "2"]  # more clips: finished ones are kept
    assert main(larger) == 0
    assert {path: stamp for path, stamp in stamps(tmp_path / "evals").items() if path in after} == after
    assert len(stamps(tmp_path / "evals")) == 2 * len(after)
    assert main(flags) == 0  # fewer clips: the others are ignored
    content = json.loads((tmp_path / "evals/paper/table3.json").read_text())
    assert [len(cell["clips"]["SI-SNR"]) for cell in content["cells"]] == [1] * len(after)


@pytest.fixture
def headline(tmp_path, monkeypatch):
    """Return a function that returns the first line of a report on made-up results, some of them missing."""

    def run(*flags, lacks=0, diverged=0, study="table1"):
        def found(parts):
            for part in parts:
                rt60 = getattr(part.plan.config.corruption, "rt60", None)
                missing = lacks if (part.kind, rt60) == ("singing", 0.2) else 0
                for number in range(part.clips - missing):
                    repetition_dir = tmp_path / "made up" / f"{number:03d}_clip"
                    best = {name: {"value": 1.0, "gain": 1.0} for name in ("si_snr", "psnr")}
                    error = "diverged" if number < diverged else None
                    yield Fit(part.kind, repetition_dir, {"best": best, "error": error})

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(runs, "_found", found)
        assert main([study, "--finished_only", *flags]) == 0
        return (tmp_path / f"evals/paper/{study}.md").read_text().splitlines()[2]

    return run


@pytest.fixture
def data_sets(tmp_path):
    """Return the flags for the paper's three data sets, with twenty recordings each."""
    names = {
        "speech": "clean_testset_wav/{}.wav",
        "singing": "test/A - {}/vocals.wav",
        "instruments": "Audio/A_B/A_B_STEMS/A_B_STEM_{}.wav",
    }
    for kind, name in names.items():
        for number in range(20):
            write_sound(tmp_path / kind / name.format(number))
    (tmp_path / "instruments/Metadata").mkdir()
    (tmp_path / "instruments/Metadata/A_B_METADATA.yaml").write_text("stems: {}\n")
    return [f"--{kind}={tmp_path / kind}" for kind in names]


TEXT_FLAGS = "--input_noise gaussian --resample_input --data_range none"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("", "the paper's size and data: 20 clips a cell, 3000 epochs"),
        (TEXT_FLAGS, "as in the paper: 20 clips a cell, 3000 epochs"),
        ("--data_range none", "NOT AS IN THE PAPER: 20 clips a cell"),
        (
            f"--seed 3 --device cpu --show_every 10 --workers 2 --lr 1e-4 {TEXT_FLAGS} --input_std 0.1",
            "as in the paper: 20 clips",
        ),
        (f"{TEXT_FLAGS} --lr 1e-3", "NOT AS IN THE PAPER: 20 clips"),
        (f"{TEXT_FLAGS} --input_std 0.2", "NOT AS IN THE PAPER: 20 clips"),
        ("--lr 1e-3", "NOT AS IN THE PAPER: 20 clips"),
        ("--preset fast --epochs 3000", "NOT AS IN THE PAPER: 20 clips"),
        ("--clips 19", "A REDUCED RUN: 19 clips"),
        ("--epochs 2999", "A REDUCED RUN: 20 clips a cell, 2999 epochs"),
        (
            "--epochs 3001",
            "NOT AS IN THE PAPER: 20 clips a cell, 3001 epochs",
        ),  # the best of more epochs can only be higher
        ("--clips 21", "NOT AS IN THE PAPER: 21 clips a cell, 3000 epochs"),
    ],
)
def test_the_headline_compares_size_and_settings_with_the_paper(flags, words, headline, data_sets):
    assert headline(*data_sets, *flags.split()).startswith(f"- {words}")


def test_differences_from_the_papers_text_are_reported(headline, data_sets, tmp_path):
    headline(*data_sets)
    (line,) = [
        line for line in (tmp_path / "evals/paper/table1.md").read_text().splitlines() if "paper's text the" in line
    ]
    assert re.findall(r"\(here (.*?)\)", line) == ["uniform, drawn once", "2"]
    headline(*data_sets, *TEXT_FLAGS.split())
    assert "paper's text the" not in (tmp_path / "evals/paper/table1.md").read_text()


def test_the_papers_text_draws_the_input_noise_once_for_inpainting():
    settings = {"input_noise": "gaussian", "data_range": None}
    assert not readings.departures(Config.of("inpaint", **settings))
    assert readings.departures(Config.of("inpaint", resample_input=True, **settings))
    assert readings.departures(Config.of("denoise", **settings))


def test_every_picture_states_the_size_of_the_run(headline, data_sets, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: drawn.append(figure))
    headlines = [headline(*data_sets, *flags) for flags in ([], ["--clips", "3"])]
    assert [f"- {figure.get_suptitle()}" for figure in drawn] == headlines


def test_a_table_with_missing_fits_or_other_data_is_not_labelled_as_in_the_paper(headline, data_sets, tmp_path):
    assert headline(*data_sets, lacks=1).startswith("- NOT FINISHED: 20 clips a cell")
    assert "- missing: 1 of the 60 fits of singing\n" in (tmp_path / "evals/paper/table1.md").read_text()
    assert headline(*data_sets, "--clips", "2", lacks=1).startswith("- A REDUCED RUN, NOT FINISHED: 2 clips a cell")
    assert headline(*data_sets[:2]).startswith("- A REDUCED RUN: 20 clips a cell")
    other = write_sound(tmp_path / "other.wav")
    assert headline(*data_sets[:2], f"--instruments={other}").startswith("- NOT AS IN THE PAPER: 20 clips a cell")
    assert headline(*data_sets).startswith("- the paper's size and data")
    assert headline(*data_sets, diverged=1).startswith("- NOT FINISHED: 20 clips a cell")
    assert (tmp_path / "evals/paper/table1.md").read_text().count("singing: 1 of 20 fits diverged") == 3
    assert headline(*data_sets, study="readings").startswith("- NOT IN THE PAPER: 20 clips a cell")
    metadata = tmp_path / "instruments/Metadata/A_B_METADATA.yaml"
    metadata.rename(tmp_path / "gone")
    assert headline(*data_sets).startswith("- NOT AS IN THE PAPER: 20 clips a cell")
    assert "- no metadata" in (tmp_path / "evals/paper/table1.md").read_text()
    (tmp_path / "gone").rename(metadata)
    assert headline(*data_sets).startswith("- the paper's size and data")
    (tmp_path / "speech/clean_testset_wav/7.wav").unlink()  # one recording twice
    assert headline(*data_sets).startswith("- NOT AS IN THE PAPER: 20 clips a cell")


def test_kinds_that_are_not_given_are_left_out(headline, data_sets, tmp_path):
    assert headline(data_sets[0], study="table3").startswith("- NOT AS IN THE PAPER: 20 clips a cell")
    lines = (tmp_path / "evals/paper/table3.md").read_text().splitlines()
    assert "- sounds: speech from Valentini et al., noisy speech database (clean recordings); " in "\n".join(lines)
    assert "; no singing; no instruments" in "\n".join(lines)
    assert headline(data_sets[1]).startswith("- A REDUCED RUN: 20 clips a cell")  # most rows have no clips
    cells = json.loads((tmp_path / "evals/paper/table1.json").read_text())["cells"]
    assert {len(cell["clips"]["SI-SNRi"]) for cell in cells if cell["kinds"] == ["singing"]} == {20}
    assert {len(cell["clips"]["SI-SNRi"]) for cell in cells if cell["kinds"] != ["singing"]} == {0}


def test_several_clips_of_one_recording_are_reported(headline, data_sets, tmp_path):
    warning = "- the standard errors treat clips"
    headline()
    report = (tmp_path / "evals/paper/table1.md").read_text()
    assert "speech from the bundled clips (synthetic, not the paper's data), 20 clips of 1 recording; " in report
    assert warning in report
    headline(*data_sets)
    assert warning not in (tmp_path / "evals/paper/table1.md").read_text()


def test_a_diverged_fit_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["figure2", *TINY, "--clips", "1", "--epochs", "4", "--lr", "1e30"]
    assert main(flags) == 3
    for more in ([], ["--finished_only"]):
        main([*flags, *more])
        assert "- Conv + LSTM, speech: 1 of 1 fits diverged" in (tmp_path / "evals/paper/figure2.md").read_text()
        facts = json.loads((tmp_path / "evals/paper/figure2.json").read_text())
        assert facts["cells"][0]["errors"].keys() == {"speech 000_speech"}


def test_the_best_pesq_of_nearly_silent_outputs_is_reported():
    study = STUDIES["table3"]
    cells = study.cells[:2]

    def fit(si_snr):
        best = {"si_snr": {"value": 5.0}, "psnr": {"value": 30.0}, "pesq": {"value": 3.0, "si_snr": si_snr}}
        return Fit("speech", Path(f"{si_snr}"), {"best": best, "input": {"si_snr": 2.5}, "error": None})

    found = {cell: [] for cell in study.cells} | {cells[0]: [fit(-0.6), fit(4.0)], cells[1]: [fit(-30.0)]}
    (doubt,) = [line for line in show.doubts(study, found, study.results(found)) if "PESQ" in line]
    assert "in 2 of 3 fits" in doubt
    found = {**found, cells[0]: [fit(4.0)], cells[1]: []}
    assert show.doubts(study, found, study.results(found)) == []


def test_gains_of_outputs_unlike_the_clean_clip_are_reported():
    study = STUDIES["table1"]

    def fit(name, value, gain):
        best = {"si_snr": {"value": value, "gain": gain}, "psnr": {"value": 30.0, "gain": 1.0}}
        return Fit("speech", Path(name), {"best": best, "input": {"si_snr": value - gain}, "error": None})

    found = {cell: [] for cell in study.cells} | {
        study.cells[0]: [fit("000_a", -16.4, 25.9), fit("001_b", -9.9, -0.1)],
        study.cells[3]: [fit("000_a", -10.1, 0.2)],
    }
    doubts = [line for line in show.doubts(study, found, study.results(found)) if "SI-SNRi" in line]
    assert len(doubts) == 1
    assert "in 2 of 3 fits" in doubts[0] and "+25.90 dB, RT60 0.1 s, speech, 000_a" in doubts[0]
    found = {cell: [] for cell in study.cells}
    assert show.doubts(study, found, study.results(found)) == []


def test_an_unusable_source_leaves_the_existing_table_unchanged(tmp_path, capsys):
    write_sound(tmp_path / "good.wav")
    (tmp_path / "no sound").mkdir()
    (tmp_path / "no sound/a.wav").write_text("no sound")
    flags = ["figure2", *TINY, "--clips", "1", "--output_dir", str(tmp_path / "evals"), "--quiet"]
    assert main([*flags, "--speech", str(tmp_path / "good.wav")]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "evals/paper").iterdir()}
    assert len(before) == 4
    capsys.readouterr()
    assert main([*flags, "--speech", str(tmp_path / "no sound")]) == 2
    errors = capsys.readouterr().err
    assert "a.wav" in errors
    assert "error: figure2: " in errors.splitlines()[-1]
    assert {path: path.read_bytes() for path in (tmp_path / "evals/paper").iterdir()} == before


@pytest.mark.parametrize(
    ("name", "shown"), [("figure2", "metrics.csv"), ("figure4", "clean.wav"), ("figure5", "clean.wav")]
)
def test_a_figure_with_a_missing_file_is_refused(name, shown, tmp_path, capsys):
    network = NETWORK if name == "figure5" else []
    flags = [name, *TINY, *network, "--clips", "1", "--output_dir", str(tmp_path), "--quiet"]
    assert main(flags) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "paper").iterdir()}
    (missing,) = tmp_path.glob(f"*/*/*/{shown}")
    missing.unlink()
    capsys.readouterr()
    assert main(flags) == 2
    assert f"{missing}: file is missing; delete {missing.parent} " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "paper").iterdir()} == before
    shutil.rmtree(missing.parent)
    assert main(flags) == 0


def test_fits_without_a_best_value_leave_the_existing_table_unchanged(tmp_path):
    flags = ["figure2", *TINY, "--clips", "1", "--output_dir", str(tmp_path), "--quiet"]
    assert main(flags) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "paper").iterdir()}
    (result,) = tmp_path.glob("*/*/*/result.json")
    facts = json.loads(result.read_text()) | {"best": {}, "error": "the loss is not a finite number at epoch 1"}
    result.write_text(json.dumps(facts))
    assert main(flags) == main([*flags, "--finished_only"]) == 2
    assert {path: path.read_bytes() for path in (tmp_path / "paper").iterdir()} == before


def test_clips_missing_from_all_rows_are_reported(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    write_sound(tmp_path / "mine/good.wav")
    (tmp_path / "mine/bad.wav").write_text("no sound")
    monkeypatch.chdir(tmp_path / "mine")
    flags = ["figure2", *TINY, "--clips", "2", "--speech", ".", "--output_dir", str(tmp_path / "evals"), "--quiet"]
    assert main(flags) == 3
    report = (tmp_path / "evals/paper/figure2.md").read_text()
    assert "- A REDUCED RUN, NOT FINISHED: 2 clips a cell" in report
    assert "- missing: 1 of the 2 fits of speech\n" in report
    assert "- sounds: speech from mine, 1 unusable recording skipped\n" in report


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_an_unusable_recording_is_replaced_by_the_next_one_in_all_rows(seed, tmp_path, monkeypatch, capsys):
    for name in "abc":
        write_sound(tmp_path / f"mine/{name}.wav")
    for name in "de":
        (tmp_path / f"mine/{name}.wav").write_text("no sound")
    write_sound(tmp_path / "mine/f.wav", torch.zeros(16000))
    monkeypatch.chdir(tmp_path)
    flags = ["table3", *TINY, "--speech", "mine", "--quiet", "--seed", str(seed)]
    assert main([*flags, "--clips", "3"]) == 3
    before = stamps(tmp_path / "evals")
    assert len(before) == 3 * len(STUDIES["table3"].cells)
    for again in ([], ["--finished_only"]):
        assert main([*flags, "--clips", "3", *again]) == (0 if again else 3)
        assert stamps(tmp_path / "evals") == before
        content = json.loads((tmp_path / "evals/paper/table3.json").read_text())
        assert content["about"][0].startswith("A REDUCED RUN: 3 clips a cell")
        (clips,) = {tuple(sorted(cell["clips"]["SI-SNR"])) for cell in content["cells"]}
        assert [clip[-1] for clip in sorted(clips, key=lambda clip: clip[-1])] == ["a", "b", "c"]
    assert main([*flags, "--clips", "6"]) == 3  # only three are usable
    assert stamps(tmp_path / "evals") == before
    report = (tmp_path / "evals/paper/table3.md").read_text()
    assert "- missing: 27 of the 54 fits of speech\n" in report
    assert "speech from mine, 3 unusable recordings skipped" in report
    capsys.readouterr()
    write_sound(tmp_path / "mine/d.wav")  # usable now
    assert main([*flags, "--clips", "6"]) == 3
    assert len(stamps(tmp_path / "evals")) == 4 * len(STUDIES["table3"].cells)


def test_no_more_unusable_recordings_are_tried_than_clips_are_requested(tmp_path, monkeypatch, capsys):
    for number in range(9):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / f"mine/{number}.wav").write_text("no sound")
    monkeypatch.chdir(tmp_path)
    assert main(["table3", *TINY, "--speech", "mine", "--quiet", "--clips", "2"]) == 2
    assert capsys.readouterr().err.count("cannot be read as sound") == 2


def test_a_setting_without_effect_in_any_cell_is_reported(headline, capsys):
    headline("--waveunet_levels", "3", "--lr", "1e-3")
    log = capsys.readouterr().err
    assert "dawp.paper: " not in log
    assert [line for line in log.splitlines() if "effect" in line] == ["--waveunet_levels has no effect in table1"]


def test_the_time_is_estimated_and_nothing_written(tmp_path):
    result = run_script(tmp_path, "table1", *TINY, *NETWORK, "--clips", "2", "--estimate-time")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 10
    assert all(re.search(r"\d ms ", line) for line in lines[:-1])
    assert lines[-1].startswith("table1: about 0.0 h")
    assert not (tmp_path / "evals").exists()


def test_the_estimate_times_one_fit_of_a_few_epochs(monkeypatch):
    configs = []
    solve = runs.solve
    monkeypatch.setattr(
        runs, "solve", lambda problem, config, **more: configs.append(config) or solve(problem, config, **more)
    )
    settings = {"fits": 3, "clip_length": 0.5, "channels": 4, "resample": False, "device": "cpu"}
    cells = runs.grid(STUDIES["figure2"], "paper", {}, 1, settings)
    (estimate,) = runs.estimates(cells)
    assert 0 < estimate.seconds_per_epoch < 10
    assert [(config.stop.fits, config.fit.epochs) for config in configs] == [(1, runs.WARM_UP + runs.TIMED)]


def test_a_cell_that_cannot_be_timed_is_reported_and_left_out(tmp_path, capsys):
    (tmp_path / "bad.wav").write_text("no sound")
    write_sound(tmp_path / "good.wav")
    sources = ["--speech", str(tmp_path / "bad.wav"), "--singing", str(tmp_path / "good.wav")]
    flags = ["table1", *TINY, *NETWORK, "--clips", "1", "--estimate_time", "--json"]
    assert main([*flags, *sources]) == 0
    output = capsys.readouterr()
    timed = {cell["cell"] for cell in json.loads(output.out)["cells"]}
    assert timed == {f"RT60 {t} s, singing" for t in (0.1, 0.2, 0.5)}
    assert re.search(r"error: RT60 0.1 s, speech: .*bad\.wav: ", output.err)
    assert main([*flags, *sources[:2]]) == 2
    assert "error: table1: " in capsys.readouterr().err
    assert main([*flags, *sources[2:], "--lr", "1", "--stop", "holdout", "--patience", "1"]) == 0  # stops at once
    capsys.readouterr()
    assert main([*flags, *sources[2:], "--lr", "1e30"]) == 2
    assert "RT60 0.5 s, singing: the loss " in capsys.readouterr().err


def test_the_estimate_counts_epochs_fits_clips_and_workers(tmp_path, monkeypatch, capsys):
    """Made-up durations: 0.5 s per epoch, 1.5 s with PESQ; 3000 epochs, 3 clips, 4 fits per clip, 2 workers."""
    seconds = {1: 1.5, 10: 0.5}
    measured = []

    def made_up_seconds(problem, config):
        measured.append(config.metrics.pesq_every)
        return seconds[config.metrics.pesq_every]

    write_sound(tmp_path / "b.wav")
    (tmp_path / "a.wav").write_text("no sound")  # a run would skip it
    monkeypatch.setattr(runs, "_measure_seconds", made_up_seconds)
    flags = "--clips 3 --fits 4 --workers 2 --threads 1 --device cpu --estimate_time --json".split()
    estimates = []
    for every in ("1", "10"):
        assert main(["figure2", "--speech", str(tmp_path), "--pesq_every", every, *flags]) == 0
        estimates.append(json.loads(capsys.readouterr().out))
    assert measured == [1, 1, 10]
    hours = 3000 * 4 * 3 / 2 / 3600
    assert [estimate["hours"] for estimate in estimates] == pytest.approx([1.5 * hours, 0.6 * hours])
    assert [estimate["side_by_side"] for estimate in estimates] == [2, 2]
    assert [estimate["cells"][0]["seconds_per_epoch"] for estimate in estimates] == pytest.approx([1.5, 0.6])


@pytest.mark.parametrize(
    ("flags", "setting", "value"),
    [
        ("table3 --clips 0", "clips must be", "got 0"),
        ("table3 --clips 2000000", "clips must be", "got 2000000"),
        ("table3 --speech ", "argument --speech: ", "got ''"),
        ("table3 --speech nowhere", "nowhere: ", ""),
        ("table3 --channels 1", "channels must be", "got 1"),
        ("table3 --snr 10", "snr must not be given for table3", "got 10"),
        ("table3 --snr none", "snr must not be given for table3", "got none"),
        ("table2 --finished_only --gaps 0.1:0.01", "gaps must not be given for table2", "got 0.1:0.01"),
        ("table2 --finished_only --gaps 1\v2", "gaps must not be given for table2", "got 1\\x0b2"),
        ("table2 --min_gap_ms 2", "--min_gap_ms", ""),
        ("table3 --finished_only --generator waveunet", "generator must not be given for table3", "got waveunet"),
        ("figure5 --finished_only --generator waveunet", "generator must not be given for figure5", "got waveunet"),
        ("figure2 --finished_only --lstm_layers 0", "lstm_layers must not be given for figure2", "got 0"),
        ("readings --data_range none", "data_range must not be given for readings", "got none"),
        ("table1 --finished_only", "table1: ", "evals"),
        ("table3 --tensorboard tb", "--tensorboard", ""),
        ("table3 --source a.wav", "--source", ""),
        ("table3 --restore", "--restore", ""),
        ("table3 --finished_only --estimate_time", "--estimate_time", "--finished_only"),
        ("table9", "table9", ""),
        ("datasets nowhere", "nowhere: ", ""),
        ("datasets ", "argument folder: ", "got ''"),
        ("", "WHAT", ""),
    ],
)
def test_bad_input_is_one_line(flags, setting, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(flags.split(" ") if flags else [])
    except SystemExit as ended:
        code = ended.code
    errors = capsys.readouterr().err
    assert code == 2
    assert setting in errors
    assert value in errors
    assert len(errors.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_output_folder_is_refused_before_the_fits(tmp_path, capsys):
    (tmp_path / "paper").write_text("a file, not a folder")
    flags = ["--clips", "1", "--output_dir", str(tmp_path), *TINY, *NETWORK]
    assert main(["table2", *flags]) == 2
    errors = capsys.readouterr().err
    assert f"error: {tmp_path / 'paper'}: " in errors
    assert len(errors.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["paper"]


def test_a_folder_with_the_name_of_an_output_file_is_refused_before_the_fits(tmp_path, capsys):
    (tmp_path / "paper/table2.json").mkdir(parents=True)
    assert main(["table2", "--clips", "1", "--output_dir", str(tmp_path), *TINY, *NETWORK]) == 2
    assert "table2.json: is a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["paper"]


@pytest.mark.parametrize("name", STUDIES)
def test_no_other_setting_overrides_the_settings_of_a_cell(name):
    """For example, --gaps would override the gap lengths of the rows, and --rir_source the reverberation times."""
    study = STUDIES[name]
    examples = {bool: (False, True), Path: (SAMPLES,), "gaps": ("0.1:0.01", "auto")}
    for cell in study.cells:
        for group in groups_of(cell.task).values():
            for setting in dataclasses.fields(group):
                if setting.name in study.own_settings or setting.name in NOT_OFFERED:
                    continue
                kind, choices = kind_of(setting, group), choices_of(setting)
                values = examples.get(setting.name) or examples.get(kind) or choices
                for value in values:
                    try:
                        config = Config.of(cell.task, **{setting.name: value}, **cell.settings)
                    except BadInput:
                        continue
                    assert cell.settings.keys() <= config.effective().keys(), (setting.name, value)


@pytest.mark.parametrize("name", STUDIES)
def test_help_lists_no_flag_that_every_cell_sets(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--restore" not in text  # studies use clean clips
    listed = set(re.findall(r"^  (?:-.*, )?--(\w+)", text, re.MULTILINE))
    assert {"preset", "clips", "channels", "lr"} <= listed
    assert not listed & set.intersection(*(set(cell.settings) for cell in STUDIES[name].cells))


# Definitions of the studies

PUBLISHED = {"table1": 18, "table2": 36, "table3": 27}


@pytest.mark.parametrize(("name", "numbers"), PUBLISHED.items())
def test_every_value_of_the_papers_tables_is_included(name, numbers):
    assert sum(len(cell.published) for cell in STUDIES[name].cells) == numbers


def test_some_values_of_the_paper():
    def number(study, cell, measure, *kinds):
        (found,) = [c for c in STUDIES[study].cells if c.name == cell and (not kinds or c.kinds == kinds)]
        return found.published[measure]

    assert number("table1", "RT60 0.2 s", "SI-SNRi", "instruments") == 5.79
    assert number("table1", "RT60 0.5 s", "PSNRi", "singing") == 6.65
    assert number("table2", "1 ms Demucs", "PSNR", "singing") == 38.40
    assert number("table2", "5 ms Wave-U-Net", "SI-SNR", "instruments") == -9.48
    assert number("table3", "Conv + LSTM", "SI-SNR") == 5.42
    assert number("table3", "Conv + GLU + Attention", "PESQ") == 1.96


def test_claims_name_existing_cells_and_measures():
    for study in STUDIES.values():
        names, titles = {cell.name for cell in study.cells}, {measure.title for measure in study.measures}
        for claim in study.claims:
            assert {name for pair in claim.pairs for name in pair} <= names
            assert claim.measure in titles


def test_a_reading_differs_from_the_default_only_in_the_settings_it_names():
    default, *others = STUDIES["readings"].cells
    row = next(cell for cell in STUDIES["table3"].cells if cell.name == "Conv + LSTM")
    configs = [Config.of("denoise", **cell.settings).effective() for cell in (default, row)]
    assert configs[0] == configs[1]  # both studies share these fits
    differing = {
        cell.name: {name for name in cell.settings if cell.settings[name] != default.settings[name]} for cell in others
    }
    assert differing == {
        "input noise Gaussian, anew each epoch": {"input_noise", "resample_input"},
        "input noise Gaussian, drawn once": {"input_noise"},
        "no resampling inside the network": {"resample"},
        "two LSTM layers": {"lstm_layers"},
        "level left to the network": {"normalize"},
    }


def results(**cells):
    """Return results of one measure by cell name."""
    return {Cell(name, "denoise", {}): {"m": Values(dict(enumerate(values)))} for name, values in cells.items()}


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ([3.0, 4.0, 5.0], [1.0, 2.5, 3.0], HOLDS),
        ([1.0, 2.5, 3.0], [3.0, 4.0, 5.0], FAILS),
        ([3.0, 1.0, 2.0], [1.0, 2.0, 3.1], WITHIN),
        ([3.0], [1.0], UNDECIDED),
        ([], [1.0], NOT_RUN),
        ([math.nan, 3.0, 4.0, 5.5], [9.0, 1.0, 2.0, 3.0], HOLDS),
    ],
)
def test_a_claim_is_judged_clip_by_clip(a, b, word):
    assert Claim("a is better", (("a", "b"),), "m").verdict(results(a=a, b=b)).word == word


def test_variation_between_clips_does_not_hide_a_difference_between_cells():
    found = results(a=[0.0, 50.0, 100.0], b=[-1.0, 49.1, 98.8])
    verdict = Claim("a is better", (("a", "b"),), "m").verdict(found)
    assert verdict.word == HOLDS
    assert "+1.03 ± 0.09 (standard error, 3 clips)" in verdict.why


def test_the_worst_verdict_of_several_pairs_counts():
    found = results(a=[3.0, 4.0], b=[1.0, 2.1], c=[9.0, 9.5])
    assert Claim("", (("a", "b"), ("c", "a")), "m").verdict(found).word == HOLDS
    assert Claim("", (("a", "b"), ("a", "c")), "m").verdict(found).word == FAILS
    assert Claim("", (("a", "b"), ("a", "d")), "m").verdict(found).word == NOT_RUN
    found = results(a=[3.0, 4.0], b=[1.0, 2.1], c=[1.0, math.nan])
    assert Claim("", (("a", "b"), ("a", "c")), "m").verdict(found).word == UNDECIDED


def kind_and_folder(clip):
    kind, _, name = clip.rpartition(" ")
    return kind, Path(name)


def made_up(results):
    """Return fits that have these results by the measure "m"."""
    return {
        cell: [
            Fit(*kind_and_folder(clip), {"best": {"si_snr": {"value": value}}, "error": None})
            for clip, value in by_measure["m"].by_clip.items()
        ]
        for cell, by_measure in results.items()
    }


def test_the_table_has_aligned_columns_with_the_papers_values():
    cells = [Cell("first", "denoise", {}, published={"m": 1.5}), Cell("second", "denoise", {}, ("speech",))]
    study = Study("s", "A study", cells, (Measure("m", "si_snr"),))
    found = {cells[0]: {"m": Values({"a": 1.0, "b": 2.0, "c": math.nan})}, cells[1]: {"m": Values({})}}
    lines = show.markdown(study, found).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["first", "3", "1.50", "0.71", "1.50"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["second, speech", "not run", "-", "-", "-"]
    assert "first, m: NaN for 1 of 3 clips" in show.text(study, made_up(found), EMPTY_ABOUT)


def test_a_row_that_lacks_clips_of_other_rows_is_reported():
    clips = [f"speech {number}" for number in range(5)]
    counts = {"all": 5, "four": 4, "one": 1, "none": 0}
    cells = {name: Cell(name, "denoise", {}) for name in counts}
    cells["of singing"] = Cell("of singing", "denoise", {}, ("singing",))
    study = Study("s", "A study", list(cells.values()), (Measure("m", "si_snr"),))
    found = {cells[name]: {"m": Values(dict.fromkeys(clips[:count], 1.0))} for name, count in counts.items()}
    fits = made_up({**found, cells["of singing"]: {"m": Values({"singing 0": 1.0})}})
    four, one = show.doubts(study, fits, study.results(fits))  # none for a row without clips or of other kinds
    assert four.startswith("four: lacks speech 4, ")
    assert one.startswith("one: lacks speech 1, speech 2 and 2 more, ")


def test_bars_state_different_numbers_of_clips_and_are_not_covered_by_the_legend():
    cells = [Cell(name, "denoise", {}, published={"m": 40.0}) for name in ("first", "second", "third")]
    study = Study("s", "A study", cells, (Measure("m", "si_snr"),))
    same = {cell: {"m": Values({"a": 30.0, "b": 38.0})} for cell in cells}
    fewer = {**same, cells[1]: {"m": Values({"a": 30.0})}, cells[2]: {"m": Values({})}}
    drawn = [show.bars(study, results) for results in (same, fewer)]
    labels = [[label.get_text() for label in figure.axes[0].get_yticklabels()] for figure in drawn]
    assert labels == [["first", "second", "third"], ["first: 2 clips", "second: 1 clip", "third: not run"]]
    for figure in drawn:
        figure.draw_without_rendering()
        assert figure.axes[0].get_ylim() == (2.5, -0.5)  # includes the row without a bar
        legend = figure.axes[0].get_legend().get_window_extent()
        assert not any(legend.overlaps(bar.get_window_extent()) for bar in figure.axes[0].patches)
        assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1 and legend.y1 <= figure.bbox.y1


def test_a_measure_that_is_not_in_the_paper_has_no_column_for_it():
    titles = [title for title in show.header(STUDIES["table1"]) if title != "± std"]
    assert titles == ["", "clips", "SI-SNRi", "paper", "PSNRi", "paper", "SI-SNR"]


def test_clips_are_split_evenly_between_kinds(tmp_path):
    sources = {}
    for kind in ("speech", "singing", "instruments"):
        sources[kind] = write_sound(tmp_path / f"{kind}.wav")
    cells = runs.grid(STUDIES["table3"], "paper", sources, 20, {})
    for parts in cells.values():
        assert [(part.kind, part.clips) for part in parts] == [("speech", 7), ("singing", 7), ("instruments", 6)]
        assert {part.plan.config.fit.epochs for part in parts} == {3000}
    (row, *_) = runs.grid(STUDIES["table1"], "paper", sources, 20, {}).values()
    assert [(part.kind, part.clips) for part in row] == [("speech", 20)]
    assert row[0].plan.published["values"] == {"si_snr": {"gain": 2.22}, "psnr": {"gain": 13.45}}


# Data sets


def layout(folder, *names):
    for name in names:
        write_sound(folder / name)


def test_valentini_provides_its_clean_recordings(tmp_path):
    layout(
        tmp_path, "clean_testset_wav/p232_001.wav", "noisy_testset_wav/p232_001.wav", "clean_trainset_28spk_wav/a.wav"
    )
    assert [recording.path.parent.name for recording in datasets.find("speech", tmp_path)] == ["clean_testset_wav"]
    with pytest.raises(BadInput, match="for speech, not for singing"):
        datasets.find("singing", tmp_path)


def test_musdb_provides_its_vocals(tmp_path):
    layout(tmp_path, *(f"{part}/A - B/{stem}.wav" for part in ("train", "test") for stem in ("vocals", "drums")))
    assert [r.path.relative_to(tmp_path).as_posix() for r in datasets.find("singing", tmp_path)] == [
        "test/A - B/vocals.wav"
    ]
    (tmp_path / "other/test").mkdir(parents=True)
    (tmp_path / "other/test/A.stem.mp4").touch()
    with refused_as("unreadable_input", "MUSDB18-HQ"):
        datasets.find("singing", tmp_path / "other")


def test_medleydb_provides_its_instruments(tmp_path):
    stems = [f"Audio/A_B/A_B_STEMS/A_B_STEM_0{number}.wav" for number in (1, 2, 3)]
    layout(tmp_path, *stems, "Audio/A_B/A_B_MIX.wav", "Audio/C_D/C_D_STEMS/C_D_STEM_01.wav")
    (tmp_path / "Audio/A_B/A_B_STEMS/._A_B_STEM_01.wav").touch()
    (tmp_path / "Metadata").mkdir()
    (tmp_path / "Metadata/A_B_METADATA.yaml").write_text(
        "stems:\n"
        "  S01: {filename: A_B_STEM_01.wav, instrument: acoustic guitar}\n"
        "  S02: {filename: A_B_STEM_02.wav, instrument: male singer}\n"
        "  S03: {filename: A_B_STEM_03.wav, instrument: [piano, cello]}\n"
    )
    found = [recording.path.name for recording in datasets.find("instruments", tmp_path)]
    assert found == ["A_B_STEM_01.wav", "A_B_STEM_03.wav", "C_D_STEM_01.wav"]
    (tmp_path / "Metadata/A_B_METADATA.yaml").write_text("!!python/object/apply:os.system ['touch hacked']")
    with refused_as("unreadable_input", r"A_B_METADATA\.yaml: "):
        datasets.find("instruments", tmp_path)


@pytest.mark.parametrize("text", ["stems: {S01: {recorded: 2010-13-45}}", "[" * 5000, "stems: []", "3", "- a"])
def test_malformed_metadata_is_refused(text, tmp_path):
    layout(tmp_path, "Audio/A_B/A_B_STEMS/A_B_STEM_01.wav")
    (tmp_path / "Audio/A_B/A_B_METADATA.yaml").write_text(text)
    with refused_as("unreadable_input", r"A_B_METADATA\.yaml: "):
        datasets.find("instruments", tmp_path)


def test_each_track_without_metadata_is_counted(tmp_path):
    layout(tmp_path, "Audio/A_B/A_B_STEMS/A_B_STEM_01.wav", "Audio/C_D/C_D_STEMS/C_D_STEM_01.wav")
    (tmp_path / "Audio/A_B/A_B_METADATA.yaml").write_text("stems: {}")
    (doubt,) = datasets.doubts(tmp_path)
    assert "1 of 2 tracks, first C_D" in doubt
    assert doubt in datasets.report(tmp_path)
    (tmp_path / "Audio/C_D/C_D_METADATA.yaml").write_text("stems: {}")
    assert datasets.doubts(tmp_path) == datasets.doubts(SAMPLES) == []


def test_a_parent_or_subfolder_of_a_data_set_is_refused_or_recognised(tmp_path):
    """Otherwise all its sounds would be used: voices as instruments, drums as singing."""
    layout(tmp_path, *(f"musdb/test/A - B/{stem}.wav" for stem in ("vocals", "drums")))
    layout(tmp_path, "medley/Audio/A_B/A_B_STEMS/A_B_STEM_01.wav", "mine/a.wav")
    layout(tmp_path, "valentini/clean_trainset_28spk_wav/a.wav", "valentini/clean_testset_wav/b.wav")
    for kind, name, parent in (("singing", "musdb/test", "musdb"), ("instruments", "medley/Audio", "medley")):
        with pytest.raises(BadInput, match=rf"{name}: .*; use .*/{parent}$"):
            datasets.find(kind, tmp_path / name)
    with pytest.raises(BadInput, match=r": .* MedleyDB \(stems\); use .*/medley$"):
        datasets.find("singing", tmp_path)
    part = tmp_path / "valentini/clean_trainset_28spk_wav"
    assert datasets.recognise(part) is datasets.recognise(part.parent)
    assert [recording.path.name for recording in datasets.find("speech", part)] == ["a.wav"]
    assert [recording.path.name for recording in datasets.find("speech", part.parent)] == ["b.wav"]
    assert len(datasets.find("speech", tmp_path / "mine")) == 1


def test_a_recording_listed_twice_is_used_once(tmp_path, caplog):
    layout(tmp_path, "a.wav", "b.wav")
    (tmp_path / "list.txt").write_text("b.wav\na.wav\n./b.wav\n")
    with caplog.at_level("INFO"):
        found = datasets.find("speech", tmp_path / "list.txt")
    assert [recording.name for recording in found] == ["b", "a"]
    assert [record.args for record in caplog.records] == [(1,)]


def test_files_named_like_a_data_set_are_not_taken_for_one(tmp_path):
    layout(tmp_path, "clean_set_01wav.wav", "clean_set_01.wav")
    assert len(datasets.find("speech", tmp_path)) == 2


def test_all_recordings_of_any_other_source_are_used(tmp_path):
    layout(tmp_path, "a.wav", "b/c.wav")
    assert len(datasets.find("instruments", tmp_path)) == 2
    assert datasets.find("speech", SAMPLES / "speech.wav")[0].path == SAMPLES / "speech.wav"


def test_pairs_are_refused(tmp_path):
    for name in ("a.wav", "b.wav"):
        write_sound(tmp_path / name)
    (tmp_path / "list.txt").write_text("a.wav\nb.wav\n")
    assert len(datasets.find("speech", tmp_path / "list.txt")) == 2
    (tmp_path / "list.txt").write_text("a.wav\na.wav,b.wav\n")
    with refused_as("invalid_list", r"list\.txt: .*a\.wav and .*b\.wav"):
        datasets.find("speech", tmp_path / "list.txt")


def test_a_recording_for_two_kinds_is_refused(tmp_path):
    layout(tmp_path, "a.wav", "b.wav")
    (tmp_path / "list.txt").write_text("b.wav\n")
    with pytest.raises(BadInput, match=r"singing and speech must not share recordings, got .*b\.wav"):
        runs.grid(STUDIES["table3"], "paper", {"speech": tmp_path, "singing": tmp_path / "list.txt"}, 3, {})


def test_the_recordings_of_a_folder_are_described(tmp_path, capsys):
    layout(tmp_path, "clean_testset_wav/a.wav", "clean_testset_wav/b.wav")
    (tmp_path / "clean_testset_wav/c.wav").write_text("no sound")
    assert main(["datasets", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "Valentini" in output
    assert "speech: 3 recordings, 0.0 min; 2 at 16000 Hz" in output
    assert "unreadable: 1\n" in output
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.wav").write_text("no sound")
    good = tmp_path / "clean_testset_wav"
    assert main(["datasets", "nowhere", str(tmp_path / "bad"), str(good)]) == 3
    output = capsys.readouterr()
    assert "speech: 3 recordings" in output.out
    assert [line.split(": ")[2] for line in output.err.splitlines()] == ["nowhere", str(tmp_path / "bad")]
    assert main(["datasets", str(tmp_path / "bad")]) == 2
