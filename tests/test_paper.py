"""The paper's tables and figures: real commands at a tiny size, and the arithmetic of the claims."""

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
from conftest import ROOT, SAMPLES, environment, write_sound
from matplotlib.image import imread

from dawp.config import Config, groups_of
from dawp.errors import BadInput
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

NETWORK = "--depth 1 --lstm_layers 1".split()  # for the studies whose cells do not set it
TINY = (
    "--channels 4 --no_resample --waveunet_levels 2 --waveunet_filters 2 --clip_length 0.5 "
    "--epochs 2 --pesq_every 2 --device cpu --workers 1 --no_report --no_pictures"
).split()
"""What no cell sets itself, as small as it goes; the cells of table 3 and of the readings set the network, too."""


NOTHING_TOLD = About("A REDUCED RUN", [], Size(1, 2), {})


def paper(tmp_path, name, *flags):
    """A script as it is, with this Python in place of the one that it would install."""
    for path, text in (("scripts/setup.sh", "true"), (".venv/bin/python", f'exec "{sys.executable}" "$@"')):
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


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_each_script_runs_and_a_second_time_repeats_nothing(name, tmp_path, monkeypatch, capsys):
    study = STUDIES[name]
    clips = 1
    free = [flag for flag in TINY if (name, flag) != ("readings", "--no_resample")]  # which its cells set
    flags = [*free, *([] if "depth" in study.own_settings else NETWORK), "--clips", str(clips)]
    result = paper(tmp_path, name, *flags)
    assert result.returncode == 0, result.stderr
    assert f"# {study.title}" in result.stdout
    published = "1 clip" if name in ("figure2", "figure4", "figure5") else "20 clips"
    where = "in full" if name == "readings" else "the paper"
    size = f"A REDUCED RUN: 1 clip a cell, 2 epochs ({where}: {published} a cell, 3000 epochs)"
    assert f"- {size}; preset paper\n" in result.stdout
    assert "- sounds: speech from the bundled clips (synthetic, not the paper's data)" in result.stdout
    every_kind = name in ("table1", "table2", "figure3")  # the others' clip is of speech
    assert ("singing from the bundled clips" in result.stdout) == every_kind
    assert f"- made by: python -m dawp.paper {name} {' '.join(flags)}" in result.stdout
    for claim in study.claims:
        assert claim.text in result.stdout
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
    for cell, line, told in zip(study.cells, lines, facts["cells"], strict=True):
        assert line[0] == cell.title
        assert line[1:5] == ["1", published.split()[0], "2", "3000"]
        assert told["best"].keys() == told["clips"][study.measures[0].title].keys()
        assert all(best["si_snr"]["epoch"] in (1, 2) for best in told["best"].values())
        mean = line[header.index(f"{study.measures[0].title} mean")]
        values = [value for value in told["clips"][study.measures[0].title].values() if value is not None]
        assert (float(mean) if mean else None) == (pytest.approx(sum(values) / len(values)) if values else None)

    before = stamps(tmp_path / "evals")
    assert len(before) == clips * len(study.cells)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main([name, *flags, "--quiet"]) == 0
    assert capsys.readouterr().out == "evals/paper\n"
    assert stamps(tmp_path / "evals") == before


@pytest.mark.slow
def test_the_spectrograms_of_figure_2s_run_have_seconds_and_hertz(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = []
    assert main(["figure2", *TINY, "--clips", "1"]) == 0
    monkeypatch.setattr(pictures, "save", lambda figure, to: figures.append(figure))
    assert main(["figure4", *TINY, "--clips", "1", "--finished_only"]) == 0
    assert figures[0].get_suptitle().startswith("A REDUCED RUN: 1 clip a cell, 2 epochs (the paper: 1 clip a cell, ")
    *panels, _ = figures[0].axes  # the last is the bar of colours
    assert [axis.get_title(loc="left") for axis in panels] == ["corrupted", "best (oracle SI-SNR)", "clean"]
    for axis in panels:
        assert axis.get_xlim() == pytest.approx((0, 0.5), abs=0.01)
        assert axis.get_ylim() == pytest.approx((0, 8000), abs=50)
    assert (panels[-1].get_xlabel(), panels[0].get_ylabel()) == ("time (s)", "frequency (Hz)")


@pytest.mark.slow
def test_an_interrupted_table_goes_on_with_what_is_missing(tmp_path, monkeypatch):
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
    told = (tmp_path / "evals/paper/table3.md").read_text()
    assert told.count("not run |") == len(STUDIES["table3"].cells) - 3
    assert "**not run**: LSTM helps" in told
    monkeypatch.setattr(repetition, "write_json", result_json)
    assert main(flags) == 0
    after = stamps(tmp_path / "evals")
    assert len(after) == len(STUDIES["table3"].cells)
    assert {path: after[path] for path in before} == before
    larger = [*flags[:-1], "2"]  # more clips: those that are there count
    assert main(larger) == 0
    assert {path: stamp for path, stamp in stamps(tmp_path / "evals").items() if path in after} == after
    assert len(stamps(tmp_path / "evals")) == 2 * len(after)
    assert main(flags) == 0  # and fewer clips: only those
    told = json.loads((tmp_path / "evals/paper/table3.json").read_text())
    assert [len(cell["clips"]["SI-SNR"]) for cell in told["cells"]] == [1] * len(after)


@pytest.fixture
def headline(tmp_path, monkeypatch):
    """The first line about a study of the paper's data sets, with made-up results; some cell may lack one."""

    def of(*flags, lacks=0, diverged=0, study="table1"):
        def found(parts):
            for part in parts:
                room = getattr(part.plan.config.corruption, "rt60", None)
                lacking = lacks if (part.kind, room) == ("singing", 0.2) else 0
                for number in range(part.clips - lacking):
                    repetition_dir = tmp_path / "made up" / f"{number:03d}_clip"
                    best = {name: {"value": 1.0, "gain": 1.0} for name in ("si_snr", "psnr")}
                    error = "diverged" if number < diverged else None
                    yield Fit(part.kind, repetition_dir, {"best": best, "error": error})

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(runs, "_found", found)
        assert main([study, "--finished_only", *flags]) == 0
        return (tmp_path / f"evals/paper/{study}.md").read_text().splitlines()[2]

    return of


@pytest.fixture
def data_sets(tmp_path):
    """The flags that name the paper's three data sets, with twenty recordings in each."""
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


AS_THE_TEXT_SAYS = "--input_noise gaussian --resample_input --data_range none"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("", "the paper's size and data: 20 clips a cell, 3000 epochs"),
        (AS_THE_TEXT_SAYS, "as in the paper: 20 clips a cell, 3000 epochs"),
        ("--data_range none", "NOT AS IN THE PAPER: 20 clips a cell"),
        (
            f"--seed 3 --device cpu --show_every 10 --workers 2 --lr 1e-4 {AS_THE_TEXT_SAYS} --input_std 0.1",
            "as in the paper: 20 clips",
        ),
        (f"{AS_THE_TEXT_SAYS} --lr 1e-3", "NOT AS IN THE PAPER: 20 clips"),
        (f"{AS_THE_TEXT_SAYS} --input_std 0.2", "NOT AS IN THE PAPER: 20 clips"),
        ("--lr 1e-3", "NOT AS IN THE PAPER: 20 clips"),
        ("--preset fast --epochs 3000", "NOT AS IN THE PAPER: 20 clips"),
        ("--clips 19", "A REDUCED RUN: 19 clips"),
        ("--epochs 2999", "A REDUCED RUN: 20 clips a cell, 2999 epochs"),
        ("--epochs 3001", "NOT AS IN THE PAPER: 20 clips a cell, 3001 epochs"),  # the best of more can only be higher
        ("--clips 21", "NOT AS IN THE PAPER: 21 clips a cell, 3000 epochs"),
    ],
)
def test_the_papers_size_and_settings_are_told_as_the_papers(flags, words, headline, data_sets):
    assert headline(*data_sets, *flags.split()).startswith(f"- {words}")


def test_where_the_papers_text_says_otherwise_is_told(headline, data_sets, tmp_path):
    headline(*data_sets)
    told = (tmp_path / "evals/paper/table1.md").read_text()
    assert (
        "- in the paper's text the input noise is Gaussian with a standard deviation of 0.1, drawn anew each epoch "
        "(here uniform, drawn once); the peak of PSNR is the clip's range of amplitudes (here 2)\n"
    ) in told
    headline(*data_sets, *AS_THE_TEXT_SAYS.split())
    assert "paper's text the" not in (tmp_path / "evals/paper/table1.md").read_text()


def test_for_gaps_the_papers_text_draws_the_input_noise_once():
    for_gaps = {"input_noise": "gaussian", "data_range": None}
    assert not readings.departures(Config.of("inpaint", **for_gaps))
    assert readings.departures(Config.of("inpaint", resample_input=True, **for_gaps))
    assert readings.departures(Config.of("denoise", **for_gaps))


def test_every_picture_tells_the_size_of_the_run(headline, data_sets, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: drawn.append(figure))
    told = [headline(*data_sets, *flags) for flags in ([], ["--clips", "3"])]
    assert [f"- {figure.get_suptitle()}" for figure in drawn] == told


def test_a_table_that_lacks_a_fit_or_has_other_data_is_not_told_as_the_papers(headline, data_sets, tmp_path):
    assert headline(*data_sets, lacks=1).startswith("- NOT FINISHED: 20 clips a cell")
    assert "- missing: 1 of the 60 fits of singing\n" in (tmp_path / "evals/paper/table1.md").read_text()
    assert headline(*data_sets, "--clips", "2", lacks=1).startswith("- A REDUCED RUN, NOT FINISHED: 2 clips a cell")
    assert headline(*data_sets[:2]).startswith("- A REDUCED RUN: 20 clips a cell")
    other = write_sound(tmp_path / "other.wav")
    assert headline(*data_sets[:2], f"--instruments={other}").startswith("- NOT AS IN THE PAPER: 20 clips a cell")
    assert headline(*data_sets).startswith("- the paper's size and data")
    assert headline(*data_sets, diverged=1).startswith("- NOT FINISHED: 20 clips a cell")
    told = (tmp_path / "evals/paper/table1.md").read_text()
    assert told.count("singing: 1 of 20 fits diverged: their best before that counts") == 3
    assert headline(*data_sets, study="readings").startswith("- NOT IN THE PAPER: 20 clips a cell")
    metadata = tmp_path / "instruments/Metadata/A_B_METADATA.yaml"
    metadata.rename(tmp_path / "gone")
    assert headline(*data_sets).startswith("- NOT AS IN THE PAPER: 20 clips a cell")
    assert "voices may be among their stems" in (tmp_path / "evals/paper/table1.md").read_text()
    (tmp_path / "gone").rename(metadata)
    assert headline(*data_sets).startswith("- the paper's size and data")
    (tmp_path / "speech/clean_testset_wav/7.wav").unlink()  # one recording twice
    assert headline(*data_sets).startswith("- NOT AS IN THE PAPER: 20 clips a cell")


def test_kinds_that_are_not_named_beside_others_are_left_out(headline, data_sets, tmp_path):
    assert headline(data_sets[0], study="table3").startswith("- NOT AS IN THE PAPER: 20 clips a cell")
    lines = (tmp_path / "evals/paper/table3.md").read_text().splitlines()
    assert "- sounds: speech from Valentini et al., noisy speech database (clean recordings); " in "\n".join(lines)
    assert "; no singing; no instruments" in "\n".join(lines)
    assert headline(data_sets[1]).startswith("- A REDUCED RUN: 20 clips a cell")  # for most of the rows have none
    told = json.loads((tmp_path / "evals/paper/table1.json").read_text())
    assert {len(cell["clips"]["SI-SNRi"]) for cell in told["cells"] if cell["kinds"] == ["singing"]} == {20}
    assert {len(cell["clips"]["SI-SNRi"]) for cell in told["cells"] if cell["kinds"] != ["singing"]} == {0}


def test_several_clips_of_one_recording_are_told(headline, data_sets, tmp_path):
    repeated = "take clips of the same recording for independent ones"
    headline()
    told = (tmp_path / "evals/paper/table1.md").read_text()
    assert "speech from the bundled clips (synthetic, not the paper's data), 20 clips of 1 recording; " in told
    assert repeated in told
    headline(*data_sets)
    assert repeated not in (tmp_path / "evals/paper/table1.md").read_text()


def test_a_diverged_fit_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["figure2", *TINY, "--clips", "1", "--epochs", "4", "--lr", "1e30"]
    assert main(flags) == 3
    for more in ([], ["--finished_only"]):
        main([*flags, *more])
        told = (tmp_path / "evals/paper/figure2.md").read_text()
        assert "- Conv + LSTM, speech: 1 of 1 fits diverged: their best before that counts\n" in told
        facts = json.loads((tmp_path / "evals/paper/figure2.json").read_text())
        assert "not a finite number" in facts["cells"][0]["errors"]["speech 000_speech"]


def test_the_best_pesq_of_outputs_next_to_silence_is_told():
    study = STUDIES["table3"]
    cells = study.cells[:2]

    def fit(there):
        best = {"si_snr": {"value": 5.0}, "psnr": {"value": 30.0}, "pesq": {"value": 3.0, "si_snr": there}}
        return Fit("speech", Path(f"{there}"), {"best": best, "input": {"si_snr": 2.5}, "error": None})

    found = {cell: [] for cell in study.cells} | {cells[0]: [fit(-0.6), fit(4.0)], cells[1]: [fit(-30.0)]}
    told = show.text(study, found, NOTHING_TOLD)
    assert "PESQ is best where SI-SNR is far below the corrupted clip's in 2 of 3 fits" in told
    assert "PESQ is best" not in show.text(study, {**found, cells[0]: [fit(4.0)], cells[1]: []}, NOTHING_TOLD)


def test_gains_of_outputs_that_are_no_likeness_of_the_clean_clip_are_told():
    study = STUDIES["table1"]

    def fit(name, value, gain):
        best = {"si_snr": {"value": value, "gain": gain}, "psnr": {"value": 30.0, "gain": 1.0}}
        return Fit("speech", Path(name), {"best": best, "input": {"si_snr": value - gain}, "error": None})

    found = {cell: [] for cell in study.cells} | {
        study.cells[0]: [fit("000_a", -16.4, 25.9), fit("001_b", -9.9, -0.1)],
        study.cells[3]: [fit("000_a", -10.1, 0.2)],
    }
    told = show.text(study, found, NOTHING_TOLD)
    assert (
        "- SI-SNRi is of outputs below -10 dB, which are no likeness of the clean clip, in 2 of 3 fits "
        "(at most +25.90 dB: RT60 0.1 s, speech, 000_a)\n"
    ) in told
    assert "no likeness" not in show.text(study, {**found, study.cells[0]: [], study.cells[3]: []}, NOTHING_TOLD)


def test_a_source_that_gives_nothing_leaves_the_table_that_is_there(tmp_path, capsys):
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
    assert "nothing of figure2 is finished" in errors.splitlines()[-1]
    assert {path: path.read_bytes() for path in (tmp_path / "evals/paper").iterdir()} == before


@pytest.mark.parametrize(
    ("name", "shown"), [("figure2", "metrics.csv"), ("figure4", "clean.wav"), ("figure5", "clean.wav")]
)
def test_a_figure_whose_file_is_gone_is_refused(name, shown, tmp_path, capsys):
    network = NETWORK if name == "figure5" else []
    flags = [name, *TINY, *network, "--clips", "1", "--output_dir", str(tmp_path), "--quiet"]
    assert main(flags) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "paper").iterdir()}
    (gone,) = tmp_path.glob(f"*/*/*/{shown}")
    gone.unlink()
    capsys.readouterr()
    assert main(flags) == 2
    errors = capsys.readouterr().err
    assert f"{gone}: is not there, so there is nothing to show; without {gone.parent} the same command does" in errors
    assert {path: path.read_bytes() for path in (tmp_path / "paper").iterdir()} == before
    shutil.rmtree(gone.parent)
    assert main(flags) == 0


def test_fits_that_restored_nothing_leave_the_table_that_is_there(tmp_path, capsys):
    flags = ["figure2", *TINY, "--clips", "1", "--output_dir", str(tmp_path), "--quiet"]
    assert main(flags) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "paper").iterdir()}
    (result,) = tmp_path.glob("*/*/*/result.json")
    facts = json.loads(result.read_text()) | {"best": {}, "error": "the loss is not a finite number at epoch 1"}
    result.write_text(json.dumps(facts))
    assert main(flags) == main([*flags, "--finished_only"]) == 2
    assert "nothing of figure2 is finished" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "paper").iterdir()} == before


def test_clips_that_no_row_has_are_told(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    write_sound(tmp_path / "mine/good.wav")
    (tmp_path / "mine/bad.wav").write_text("no sound")
    monkeypatch.chdir(tmp_path / "mine")
    flags = ["figure2", *TINY, "--clips", "2", "--speech", ".", "--output_dir", str(tmp_path / "evals"), "--quiet"]
    assert main(flags) == 3
    told = (tmp_path / "evals/paper/figure2.md").read_text()
    assert "- A REDUCED RUN, NOT FINISHED: 2 clips a cell" in told
    assert "- missing: 1 of the 2 fits of speech\n" in told
    assert "- sounds: speech from mine, 1 recording that cannot be used passed over\n" in told


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_recording_that_cannot_be_used_is_passed_over_for_the_next_in_all_rows(seed, tmp_path, monkeypatch, capsys):
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
        told = json.loads((tmp_path / "evals/paper/table3.json").read_text())
        assert told["about"][0].startswith("A REDUCED RUN: 3 clips a cell")
        (clips,) = {tuple(sorted(cell["clips"]["SI-SNR"])) for cell in told["cells"]}
        assert [clip[-1] for clip in sorted(clips, key=lambda clip: clip[-1])] == ["a", "b", "c"]
    assert main([*flags, "--clips", "6"]) == 3  # of which there are three
    assert stamps(tmp_path / "evals") == before
    told = (tmp_path / "evals/paper/table3.md").read_text()
    assert "- missing: 27 of the 54 fits of speech\n" in told
    assert "speech from mine, 3 recordings that cannot be used passed over" in told
    capsys.readouterr()
    write_sound(tmp_path / "mine/d.wav")  # mended, it takes its turn
    assert main([*flags, "--clips", "6"]) == 3
    assert len(stamps(tmp_path / "evals")) == 4 * len(STUDIES["table3"].cells)


def test_recordings_that_cannot_be_used_for_what_is_asked_are_not_all_tried(tmp_path, monkeypatch, capsys):
    for number in range(9):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / f"mine/{number}.wav").write_text("no sound")
    monkeypatch.chdir(tmp_path)
    assert main(["table3", *TINY, "--speech", "mine", "--quiet", "--clips", "2"]) == 2
    assert capsys.readouterr().err.count("cannot be read as sound") == 2


def test_a_setting_without_effect_in_any_cell_is_told(headline, capsys):
    headline("--waveunet_levels", "3", "--lr", "1e-3")
    said = capsys.readouterr().err
    assert "dawp.paper: " not in said
    assert [line for line in said.splitlines() if "effect" in line] == ["--waveunet_levels has no effect in table1"]


def test_the_time_is_estimated_and_nothing_written(tmp_path):
    result = paper(tmp_path, "table1", *TINY, *NETWORK, "--clips", "2", "--estimate-time")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 10
    assert all("ms an epoch" in line for line in lines[:-1])
    assert lines[-1].startswith("table1: about 0.0 h")
    assert not (tmp_path / "evals").exists()


def test_the_estimate_times_one_fit_of_a_few_epochs(monkeypatch):
    asked = []
    solve = runs.solve
    monkeypatch.setattr(
        runs, "solve", lambda problem, config, **more: asked.append(config) or solve(problem, config, **more)
    )
    settings = {"fits": 3, "clip_length": 0.5, "channels": 4, "resample": False, "device": "cpu"}
    cells = runs.grid(STUDIES["figure2"], "paper", {}, 1, settings)
    (estimate,) = runs.estimates(cells)
    assert 0 < estimate.seconds_per_epoch < 10
    assert [(config.stop.fits, config.fit.epochs) for config in asked] == [(1, runs.WARM_UP + runs.TIMED)]


def test_what_cannot_be_timed_is_told_and_the_rest_is(tmp_path, capsys):
    (tmp_path / "bad.wav").write_text("no sound")
    write_sound(tmp_path / "good.wav")
    sources = ["--speech", str(tmp_path / "bad.wav"), "--singing", str(tmp_path / "good.wav")]
    flags = ["table1", *TINY, *NETWORK, "--clips", "1", "--estimate_time", "--json"]
    assert main([*flags, *sources]) == 0
    told = capsys.readouterr()
    assert {cell["cell"] for cell in json.loads(told.out)["cells"]} == {f"RT60 {t} s, singing" for t in (0.1, 0.2, 0.5)}
    assert "RT60 0.1 s, speech: " in told.err
    assert "bad.wav: cannot be read as sound (Format not recognised" in told.err
    assert main([*flags, *sources[:2]]) == 2
    assert "nothing of table1 can be timed" in capsys.readouterr().err
    assert main([*flags, *sources[2:], "--lr", "1", "--stop", "holdout", "--patience", "1"]) == 0  # stops at once
    capsys.readouterr()
    assert main([*flags, *sources[2:], "--lr", "1e30"]) == 2
    assert "the loss is not a finite number" in capsys.readouterr().err


def test_the_estimate_is_of_epochs_fits_clips_and_workers(tmp_path, monkeypatch, capsys):
    """Made-up seconds: 0.5 an epoch, and 1.5 with PESQ, of 3000 epochs, 4 fits each of 3 clips by 2 workers."""
    seconds = {1: 1.5, 10: 0.5}
    asked = []

    def made_up_seconds(problem, config):
        asked.append(config.metrics.pesq_every)
        return seconds[config.metrics.pesq_every]

    write_sound(tmp_path / "b.wav")
    (tmp_path / "a.wav").write_text("no sound")  # which would be passed over
    monkeypatch.setattr(runs, "_seconds_of", made_up_seconds)
    flags = "--clips 3 --fits 4 --workers 2 --threads 1 --device cpu --estimate_time --json".split()
    told = []
    for every in ("1", "10"):
        assert main(["figure2", "--speech", str(tmp_path), "--pesq_every", every, *flags]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert asked == [1, 1, 10]
    hours = 3000 * 4 * 3 / 2 / 3600
    assert [one["hours"] for one in told] == pytest.approx([1.5 * hours, 0.6 * hours])
    assert [one["side_by_side"] for one in told] == [2, 2]
    assert [one["cells"][0]["seconds_per_epoch"] for one in told] == pytest.approx([1.5, 0.6])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("table3 --clips 0", "clips must be a whole number from 1 to 1000000, got 0"),
        ("table3 --clips 2000000", "clips must be a whole number from 1 to 1000000, got 2000000"),
        ("table3 --speech ", "argument --speech: must name a data set, folder, list or file, got ''"),
        ("table3 --speech nowhere", "nowhere: no such file or folder"),
        ("table3 --channels 1", "channels must be"),
        ("table3 --snr 10", "snr is set by table3 itself in every cell, got 10"),
        ("table3 --snr none", "snr is set by table3 itself in every cell, got none"),
        ("table2 --finished_only --gaps 0.1:0.01", "gaps is set by table2 itself in every cell, got 0.1:0.01"),
        ("table2 --finished_only --gaps 1\v2", "gaps is set by table2 itself in every cell, got 1\\x0b2"),
        ("table2 --min_gap_ms 2", "there is no flag --min_gap_ms"),
        (
            "table3 --finished_only --generator waveunet",
            "generator is set by table3 itself in every cell, got waveunet",
        ),
        ("figure5 --finished_only --generator waveunet", "generator is set by figure5 itself in every cell"),
        ("figure2 --finished_only --lstm_layers 0", "lstm_layers is set by figure2 itself in every cell, got 0"),
        ("readings --data_range none", "data_range is set by readings itself in every cell, got none"),
        ("table1 --finished_only", "nothing of table1 is finished in evals with these settings"),
        ("table3 --tensorboard tb", "there is no flag --tensorboard"),
        ("table3 --source a.wav", "there is no flag --source"),
        ("table3 --restore", "there is no flag --restore"),
        (
            "table3 --finished_only --estimate_time",
            "not allowed with argument --finished_only",
        ),
        ("table9", "invalid choice: 'table9'"),
        ("datasets nowhere", "nowhere: no such file or folder"),
        ("datasets ", "argument folder: must name a data set, folder, list or file, got ''"),
        ("", "WHAT"),
    ],
)
def test_bad_input_is_one_line(flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(flags.split(" ") if flags else [])
    except SystemExit as ended:
        code = ended.code
    errors = capsys.readouterr().err
    assert code == 2
    assert words in errors
    assert len(errors.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_the_table_cannot_be_written_to_is_refused_before_the_fits(tmp_path, capsys):
    (tmp_path / "paper").write_text("in the way")
    flags = ["--clips", "1", "--output_dir", str(tmp_path), *TINY, *NETWORK]
    assert main(["table2", *flags]) == 2
    errors = capsys.readouterr().err
    assert f"{tmp_path / 'paper'}: cannot be written" in errors
    assert "not a folder" in errors
    assert len(errors.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["paper"]


def test_a_folder_in_the_place_of_a_file_of_the_table_is_refused_before_the_fits(tmp_path, capsys):
    (tmp_path / "paper/table2.json").mkdir(parents=True)
    assert main(["table2", "--clips", "1", "--output_dir", str(tmp_path), *TINY, *NETWORK]) == 2
    assert capsys.readouterr().err.endswith("table2.json: is a folder, where a file of table2 is to be\n")
    assert [path.name for path in tmp_path.iterdir()] == ["paper"]


@pytest.mark.parametrize("name", STUDIES)
def test_no_other_setting_takes_away_the_effect_of_what_a_cell_sets_itself(name):
    """By way of --gaps each row of gap lengths had the same gap, by way of --rir_source each RT60 the same room."""
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
def test_help_tells_no_flag_that_every_cell_sets(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--restore" not in shown  # the studies' clips are clean
    told = set(re.findall(r"^  (?:-.*, )?--(\w+)", shown, re.MULTILINE))
    assert {"preset", "clips", "channels", "lr"} <= told
    assert not told & set.intersection(*(set(cell.settings) for cell in STUDIES[name].cells))


# What they are made of

PUBLISHED = {"table1": 18, "table2": 36, "table3": 27}


@pytest.mark.parametrize(("name", "numbers"), PUBLISHED.items())
def test_every_number_of_the_papers_tables_is_there(name, numbers):
    assert sum(len(cell.published) for cell in STUDIES[name].cells) == numbers


def test_some_of_the_papers_numbers():
    def number(study, cell, measure, *kinds):
        (found,) = [c for c in STUDIES[study].cells if c.name == cell and (not kinds or c.kinds == kinds)]
        return found.published[measure]

    assert number("table1", "RT60 0.2 s", "SI-SNRi", "instruments") == 5.79
    assert number("table1", "RT60 0.5 s", "PSNRi", "singing") == 6.65
    assert number("table2", "1 ms Demucs", "PSNR", "singing") == 38.40
    assert number("table2", "5 ms Wave-U-Net", "SI-SNR", "instruments") == -9.48
    assert number("table3", "Conv + LSTM", "SI-SNR") == 5.42
    assert number("table3", "Conv + GLU + Attention", "PESQ") == 1.96


def test_claims_name_cells_and_measures_that_are_there():
    for study in STUDIES.values():
        names, titles = {cell.name for cell in study.cells}, {measure.title for measure in study.measures}
        for claim in study.claims:
            assert {name for pair in claim.pairs for name in pair} <= names
            assert claim.measure in titles


def test_a_reading_differs_from_the_default_in_what_its_name_says():
    default, *others = STUDIES["readings"].cells
    row = next(cell for cell in STUDIES["table3"].cells if cell.name == "Conv + LSTM")
    configs = [Config.of("denoise", **cell.settings).effective() for cell in (default, row)]
    assert configs[0] == configs[1]  # so that its fits are those of the table
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
    """Results of one measure by name of the cell."""
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


def test_clips_that_differ_among_themselves_do_not_hide_a_difference_between_cells():
    found = results(a=[0.0, 50.0, 100.0], b=[-1.0, 49.1, 98.8])
    verdict = Claim("a is better", (("a", "b"),), "m").verdict(found)
    assert verdict.word == HOLDS
    assert "+1.03 ± 0.09 (standard error, 3 clips)" in verdict.why


def test_of_several_pairs_the_least_verdict_counts():
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
    """Fits that would give these results by the measure "m"."""
    return {
        cell: [
            Fit(*kind_and_folder(clip), {"best": {"si_snr": {"value": value}}, "error": None})
            for clip, value in by_measure["m"].by_clip.items()
        ]
        for cell, by_measure in results.items()
    }


def test_the_table_stands_in_columns_with_the_papers_numbers():
    cells = [Cell("first", "denoise", {}, published={"m": 1.5}), Cell("second", "denoise", {}, ("speech",))]
    study = Study("s", "A study", cells, (Measure("m", "si_snr"),))
    found = {cells[0]: {"m": Values({"a": 1.0, "b": 2.0, "c": math.nan})}, cells[1]: {"m": Values({})}}
    lines = show.markdown(study, found).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["first", "3", "1.50", "0.71", "1.50"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["second, speech", "not run", "-", "-", "-"]
    assert "first, m: NaN for 1 of 3 clips" in show.text(study, made_up(found), NOTHING_TOLD)


def test_a_row_without_some_of_the_others_clips_is_told():
    clips = [f"speech {number}" for number in range(5)]
    counts = {"all": 5, "four": 4, "one": 1, "none": 0}
    cells = {name: Cell(name, "denoise", {}) for name in counts}
    cells["of singing"] = Cell("of singing", "denoise", {}, ("singing",))
    study = Study("s", "A study", list(cells.values()), (Measure("m", "si_snr"),))
    found = {cells[name]: {"m": Values(dict.fromkeys(clips[:count], 1.0))} for name, count in counts.items()}
    told = show.text(study, made_up({**found, cells["of singing"]: {"m": Values({"singing 0": 1.0})}}), NOTHING_TOLD)
    ending = "which other rows have: its means are not of the same clips as theirs"
    assert f"- four: without speech 4, {ending}\n" in told
    assert f"- one: without speech 1, speech 2 and 2 more, {ending}" in told
    assert told.count("without") == 2  # one that was not run says so itself, and other kinds have other clips


def test_the_bars_tell_different_numbers_of_clips_and_the_legend_hides_none():
    cells = [Cell(name, "denoise", {}, published={"m": 40.0}) for name in ("first", "second", "third")]
    study = Study("s", "A study", cells, (Measure("m", "si_snr"),))
    same = {cell: {"m": Values({"a": 30.0, "b": 38.0})} for cell in cells}
    fewer = {**same, cells[1]: {"m": Values({"a": 30.0})}, cells[2]: {"m": Values({})}}
    drawn = [show.bars(study, results) for results in (same, fewer)]
    labels = [[label.get_text() for label in figure.axes[0].get_yticklabels()] for figure in drawn]
    assert labels == [["first", "second", "third"], ["first: 2 clips", "second: 1 clip", "third: not run"]]
    for figure in drawn:
        figure.draw_without_rendering()
        assert figure.axes[0].get_ylim() == (2.5, -0.5)  # also around a row without a bar
        legend = figure.axes[0].get_legend().get_window_extent()
        assert not any(legend.overlaps(bar.get_window_extent()) for bar in figure.axes[0].patches)
        assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1 and legend.y1 <= figure.bbox.y1


def test_a_column_that_the_paper_has_not_stands_without_its_numbers():
    titles = [title for title in show.header(STUDIES["table1"]) if title != "± std"]
    assert titles == ["", "clips", "SI-SNRi", "paper", "PSNRi", "paper", "SI-SNR"]


def test_clips_are_shared_out_among_the_kinds(tmp_path):
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


def test_valentini_is_taken_for_its_clean_recordings(tmp_path):
    layout(
        tmp_path, "clean_testset_wav/p232_001.wav", "noisy_testset_wav/p232_001.wav", "clean_trainset_28spk_wav/a.wav"
    )
    assert [recording.path.parent.name for recording in datasets.find("speech", tmp_path)] == ["clean_testset_wav"]
    with pytest.raises(BadInput, match="taken for speech, not singing"):
        datasets.find("singing", tmp_path)


def test_musdb_is_taken_for_its_vocals(tmp_path):
    layout(tmp_path, *(f"{part}/A - B/{stem}.wav" for part in ("train", "test") for stem in ("vocals", "drums")))
    assert [r.path.relative_to(tmp_path).as_posix() for r in datasets.find("singing", tmp_path)] == [
        "test/A - B/vocals.wav"
    ]
    (tmp_path / "other/test").mkdir(parents=True)
    (tmp_path / "other/test/A.stem.mp4").touch()
    with pytest.raises(BadInput, match="MUSDB18-HQ"):
        datasets.find("singing", tmp_path / "other")


def test_medleydb_is_taken_for_its_instruments(tmp_path):
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
    with pytest.raises(BadInput, match="cannot be read as MedleyDB's metadata"):
        datasets.find("instruments", tmp_path)


@pytest.mark.parametrize("text", ["stems: {S01: {recorded: 2010-13-45}}", "[" * 5000, "stems: []", "3", "- a"])
def test_odd_metadata_is_refused(text, tmp_path):
    layout(tmp_path, "Audio/A_B/A_B_STEMS/A_B_STEM_01.wav")
    (tmp_path / "Audio/A_B/A_B_METADATA.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"A_B_METADATA\.yaml: cannot be read as MedleyDB's metadata"):
        datasets.find("instruments", tmp_path)


def test_each_track_without_metadata_counts(tmp_path):
    layout(tmp_path, "Audio/A_B/A_B_STEMS/A_B_STEM_01.wav", "Audio/C_D/C_D_STEMS/C_D_STEM_01.wav")
    (tmp_path / "Audio/A_B/A_B_METADATA.yaml").write_text("stems: {}")
    assert datasets.doubts(tmp_path) == [
        "no metadata (Metadata/*_METADATA.yaml) of 1 of 2 tracks, C_D first: voices may be among their stems"
    ]
    assert datasets.doubts(tmp_path)[0] in datasets.report(tmp_path)
    (tmp_path / "Audio/C_D/C_D_METADATA.yaml").write_text("stems: {}")
    assert datasets.doubts(tmp_path) == datasets.doubts(SAMPLES) == []


def test_a_folder_above_or_below_that_of_a_data_set_is_refused_or_known(tmp_path):
    """Where it is not recognised all sounds are taken: voices for instruments, drums for singing."""
    layout(tmp_path, *(f"musdb/test/A - B/{stem}.wav" for stem in ("vocals", "drums")))
    layout(tmp_path, "medley/Audio/A_B/A_B_STEMS/A_B_STEM_01.wav", "mine/a.wav")
    layout(tmp_path, "valentini/clean_trainset_28spk_wav/a.wav", "valentini/clean_testset_wav/b.wav")
    for kind, name, whole in (("singing", "musdb/test", "musdb"), ("instruments", "medley/Audio", "medley")):
        with pytest.raises(BadInput, match=rf"{name}: is a part of .*; name all of it, .*/{whole}$"):
            datasets.find(kind, tmp_path / name)
    with pytest.raises(BadInput, match=r": holds MedleyDB \(stems\); name its own folder, .*/medley$"):
        datasets.find("singing", tmp_path)
    part = tmp_path / "valentini/clean_trainset_28spk_wav"
    assert datasets.recognise(part) is datasets.recognise(part.parent)
    assert [recording.path.name for recording in datasets.find("speech", part)] == ["a.wav"]
    assert [recording.path.name for recording in datasets.find("speech", part.parent)] == ["b.wav"]
    assert len(datasets.find("speech", tmp_path / "mine")) == 1


def test_a_recording_that_is_named_twice_is_one(tmp_path, caplog):
    layout(tmp_path, "a.wav", "b.wav")
    (tmp_path / "list.txt").write_text("b.wav\na.wav\n./b.wav\n")
    with caplog.at_level("INFO"):
        found = datasets.find("speech", tmp_path / "list.txt")
    assert [recording.name for recording in found] == ["b", "a"]
    assert "named more than once: 1" in caplog.text


def test_files_named_like_a_data_set_are_not_one(tmp_path):
    layout(tmp_path, "clean_set_01wav.wav", "clean_set_01.wav")
    assert len(datasets.find("speech", tmp_path)) == 2


def test_any_other_source_is_taken_as_it_is(tmp_path):
    layout(tmp_path, "a.wav", "b/c.wav")
    assert len(datasets.find("instruments", tmp_path)) == 2
    assert datasets.find("speech", SAMPLES / "speech.wav")[0].path == SAMPLES / "speech.wav"


def test_pairs_are_refused_since_a_study_corrupts_clean_clips_itself(tmp_path):
    for name in ("a.wav", "b.wav"):
        write_sound(tmp_path / name)
    (tmp_path / "list.txt").write_text("a.wav\nb.wav\n")
    assert len(datasets.find("speech", tmp_path / "list.txt")) == 2
    (tmp_path / "list.txt").write_text("a.wav\na.wav,b.wav\n")
    with pytest.raises(
        BadInput, match=r"list\.txt: names a pair, .*a\.wav and .*b\.wav; .* so list clean recordings alone"
    ):
        datasets.find("speech", tmp_path / "list.txt")


def test_a_recording_is_of_one_kind(tmp_path):
    layout(tmp_path, "a.wav", "b.wav")
    (tmp_path / "list.txt").write_text("b.wav\n")
    with pytest.raises(BadInput, match=r"singing and speech both have .*b\.wav"):
        runs.grid(STUDIES["table3"], "paper", {"speech": tmp_path, "singing": tmp_path / "list.txt"}, 3, {})


def test_what_a_folder_holds_is_told(tmp_path, capsys):
    layout(tmp_path, "clean_testset_wav/a.wav", "clean_testset_wav/b.wav")
    (tmp_path / "clean_testset_wav/c.wav").write_text("no sound")
    assert main(["datasets", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "Valentini" in told
    assert "speech: 3 recordings, 0.0 min; 2 at 16000 Hz" in told
    assert "1 of them cannot be read as sound" in told
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.wav").write_text("no sound")
    good = tmp_path / "clean_testset_wav"
    assert main(["datasets", "nowhere", str(tmp_path / "bad"), str(good)]) == 3
    told = capsys.readouterr()
    assert "speech: 3 recordings" in told.out
    assert [line.split(": ", 2)[2] for line in told.err.splitlines()] == [
        "nowhere: no such file or folder",
        f"{tmp_path / 'bad'}: none of its sound files can be read: 1, {tmp_path / 'bad/a.wav'} first",
    ]
    assert main(["datasets", str(tmp_path / "bad")]) == 2
