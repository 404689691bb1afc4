"""Tests of the content of report.html, including escaping of names."""

import dataclasses
import html
import json
import math
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, TINY, environment, refused_as, write_sound

from dawp.config import Config
from dawp.io.files import json_text
from dawp.io.sources import find_recordings
from dawp.metrics.base import OUTPUT, Measurement
from dawp.report import assets, clips, page, tables
from dawp.report.gaps import gap_errors, spans_of
from dawp.report.page import write_report
from dawp.report.pictures import draw_nothing
from dawp.runs import experiment
from dawp.runs.folder import Plan, repetition_folders

NAME = "<img src=x onerror=alert(1)>&\"'.wav"


def run(folder, task="denoise", source=None, **settings):
    config = Config.of(task, **{**TINY, "output_dir": folder, "name": "run", "source": source, **settings})
    recordings = find_recordings(source)
    return experiment.run(config, recordings, draw_nothing, ["denoise.py", "--name", "run"]).folder


@pytest.mark.parametrize("preset", ["paper", "fast", "restore"])
@pytest.mark.parametrize("task", ["denoise", "dereverb", "inpaint"])
def test_the_settings_of_a_preset_are_not_shown_as_changed(task, preset):
    for changed, flags in (({}, []), ({"epochs": 7}, ["--epochs 7"])):
        config = Config.of(task, preset, **changed)
        groups = {key: dataclasses.asdict(group) for key, group in config.groups.items()}
        settings = json.loads(json_text(groups))
        assert tables.changed_flags({"task": task, "preset": preset, "settings": settings}) == flags


def text_of(path):
    return path.read_text(encoding="utf-8")


def words_of(path):
    """Return the text of the page without tags."""
    return html.unescape(
        re.sub(r"\s+", " ", re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", text_of(path), flags=re.S))
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished run of two clips with saved outputs; the name of one contains HTML."""
    folder = tmp_path_factory.mktemp("page")
    for name in (NAME, "plain.wav"):
        write_sound(folder / "in" / name)
    return run(folder, source=folder / "in", save_outputs=True, show_every=1)


def test_the_page_loads_no_external_resources(finished):
    text = text_of(write_report(finished))
    places = re.findall(r"""(?:src|href|srcset|data|action)=["']([^"']*)""", text)
    assert places
    assert all(place.startswith(("data:", "#")) for place in places)
    assert not re.search(r"url\(|@import|https?://", text)


def test_a_refused_recording_is_reported_with_the_reason(tmp_path):
    write_sound(tmp_path / "in" / NAME, torch.zeros(16000))
    write_sound(tmp_path / "in/plain.wav")
    path = write_report(run(tmp_path, source=tmp_path / "in"))
    words = words_of(path)
    assert "1 clip is missing" in words
    assert f"{NAME}: is silent" in words
    assert "<img src=x" not in text_of(path)
    (path.parent / "summary.json").write_text("[]")
    words = words_of(write_report(path.parent))
    assert "1 clip is missing" in words
    assert "was refused" not in words


def test_names_are_escaped(finished):
    text = text_of(write_report(finished))
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert NAME in words_of(finished / page.REPORT)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, flags=re.S)
    assert sum("use strict" in script for script in scripts) == 1
    assert all("onerror" not in script or script.startswith("[{") for script in scripts)
    assert all("<" not in script for script in scripts if script.startswith("[{"))  # JSON, with its names escaped


def test_the_content_security_policy_allows_only_the_pages_script_and_style(finished):
    import base64
    import hashlib

    text = text_of(write_report(finished))
    for kind in ("script", "style"):
        own = re.search(rf"<{kind}>(.*?)</{kind}>", text, flags=re.S)[1]
        allowed = re.search(rf"{kind}-src 'sha256-([^']+)'", html.unescape(text))[1]
        assert base64.b64encode(hashlib.sha256(own.encode()).digest()).decode() == allowed
    assert "default-src 'none'" in html.unescape(text)


def test_the_means_are_those_of_the_summary(finished):
    summary = json.loads((finished / "summary.json").read_text())
    words = words_of(write_report(finished))
    for name, statistics in summary["metrics"].items():
        measurement = Measurement.parse(name)
        if measurement.estimate == OUTPUT:
            corrupted, best = (tables.format_number(statistics[what]["mean"]) for what in ("input", "best"))
            assert f"{measurement.label} {corrupted} {best}" in words
    assert "clips 2 " in words
    assert "--lstm_layers 0" in words
    assert "--workers" not in words


def test_every_sound_has_a_player_and_a_spectrogram_with_alternative_text(finished):
    text = text_of(write_report(finished))
    sounds = [path for repetition_dir in repetition_folders(finished) for path in repetition_dir.glob("*.wav")]
    assert text.count("<audio") == len(sounds) + 2  # one for the outputs of each clip
    pictures = re.findall(r"<img[^>]*>", text)
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)
    assert len([picture for picture in pictures if "Spectrogram of" in picture]) == len(sounds) + 2
    kept = [json.loads(script) for script in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    assert [[output["epoch"] for output in outputs] for outputs in kept] == [[1, 2, 3]] * 2


def test_embedded_sounds_equal_the_files(finished):
    import base64
    import io

    import numpy as np
    import soundfile

    text = text_of(write_report(finished))
    repetition_dir = repetition_folders(finished)[0]
    first = re.search(r'<audio[^>]* src="data:audio/flac;base64,([^"]+)"', text)[1]
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(first)))
    clip, clip_rate = soundfile.read(repetition_dir / "corrupted.wav")
    assert rate == clip_rate
    assert np.abs(heard - clip).max() < 2**-15  # 16 bit


def test_levels_are_matched_by_rms():
    from pathlib import Path

    repetition_dir = Path("clip")
    rms = {"corrupted": 0.2, "clean": 0.1, "best_si_snr": 0.4, "epoch_00010": 0.004, "epoch_00001": 1e-4, "zero": 0.0}
    volumes = clips._volumes({repetition_dir / f"{name}.wav": level for name, level in rms.items()}, repetition_dir)
    heard = {path.stem: volume * rms[path.stem] for path, volume in volumes.items()}
    assert [heard[name] for name in ("corrupted", "clean", "best_si_snr")] == pytest.approx([0.1] * 3)
    assert [volumes[repetition_dir / f"{name}.wav"] for name in ("epoch_00010", "epoch_00001", "zero")] == [1, 1, 1]
    assert min(volumes.values()) == 0.25  # quiet sounds do not lower the volume of the others


def test_an_unfinished_run_lists_the_missing_fits(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    unfinished, other = repetition_folders(folder)
    (unfinished / "result.json").unlink()
    (unfinished / "restored.wav").unlink()
    words = words_of(write_report(folder))
    assert "1 clip is missing" in words
    assert "clips 1 of 2" in words
    assert "Missing: the fit is not finished: metrics up to epoch 3 of 3 so far" in words
    assert words.count("incomplete") == 1
    (other / "restored.wav").unlink()
    words = words_of(write_report(folder))
    assert "Missing: restored.wav" in words
    (other / "clean.wav").write_bytes(b"RIFF, and no more")
    assert "Missing: restored.wav; clean.wav" in words_of(write_report(folder))
    for repetition_dir in (unfinished, other):
        shutil.rmtree(repetition_dir)
    assert "No clip has been started" in words_of(write_report(folder))


def test_a_run_extended_by_repetitions_is_finished(tmp_path):
    write_sound(tmp_path / "a.wav", torch.randn(4000) * 0.1)
    for repetitions in (1, 2):
        folder = run(tmp_path, source=tmp_path / "a.wav", experiment_repetition=repetitions)
    words = words_of(write_report(folder))
    assert "not finished" not in words
    assert "clips 2 " in words


def test_a_page_is_stale_when_a_result_is_newer(finished):
    import os

    path = write_report(finished)
    assert not page.is_stale(finished)
    result = repetition_folders(finished)[0] / "result.json"
    os.utime(result, (path.stat().st_mtime + 1, path.stat().st_mtime + 1))
    assert page.is_stale(finished)
    os.utime(result, (path.stat().st_mtime - 1, path.stat().st_mtime - 1))
    path.unlink()
    assert page.is_stale(finished)


def test_settings_are_listed_if_they_have_an_effect(tmp_path):
    write_sound(tmp_path / "a.wav", torch.randn(4000) * 0.1)
    folder = run(tmp_path, source=tmp_path / "a.wav", stop="holdout", holdout=0.05, mask_floor=-30.0)
    words = words_of(write_report(folder))
    assert "--stop holdout" in words
    assert "--holdout 0.05" in words
    assert "--mask_floor" not in words  # has no effect without the mask


def test_an_unreadable_result_is_marked_and_the_others_are_shown(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    first, _ = repetition_folders(folder)
    (first / "result.json").write_text('{"best": {}}')
    words = words_of(write_report(folder))
    assert "Missing: its files cannot be read" in words
    assert "clips 1 of 2" in words


def test_a_click_in_a_long_clip_is_in_its_spectrogram():
    import numpy as np

    from dawp.report import pictures

    sound = np.zeros(60 * 16000, dtype=np.float32)
    sound[400_123] = 1
    (magnitude,) = pictures.magnitudes([sound], clips.MAX_FRAMES)
    assert magnitude.shape[1] <= clips.MAX_FRAMES + 40
    assert magnitude.max() > 0.5


def test_the_best_sound_by_pesq_is_shown_with_its_si_snr():
    facts = {"best": {"pesq": {"value": 3.59, "gain": 2.51, "epoch": 180, "si_snr": -17.6}}}
    assert clips._values("best_pesq", facts) == ["epoch 180", "PESQ 3.59 (+2.51)", "SI-SNR (dB) −17.60"]


def test_large_sounds_and_pictures_are_linked_instead_of_embedded(finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(assets, "MAX_EMBEDDED", 20_000)
    text = text_of(write_report(folder))
    sounds = re.findall(r'<audio[^>]* src="([^"]+)"', text)
    assert sounds
    assert all((folder / unquote(html.unescape(sound))).is_file() for sound in sounds)
    linked = [source for source in re.findall(r'<img[^>]* src="([^"]+)"', text) if not source.startswith("data:")]
    assert linked
    assert all((folder / source).is_file() for source in linked)
    assert "keep the page there" in words_of(folder / page.REPORT)
    assert assets.PICTURES in words_of(folder / page.REPORT)
    written = {path: path.read_bytes() for path in (folder / assets.PICTURES).iterdir()}
    monkeypatch.setattr(assets, "MAX_EMBEDDED", 40_000)  # more pictures are embedded
    pages = (text, text_of(write_report(folder)))
    first, second = (set(re.findall(assets.PICTURES + r"/\w+\.webp", content)) for content in pages)
    files = {f"{assets.PICTURES}/{path.name}" for path in (folder / assets.PICTURES).iterdir()}
    assert files == second < first
    assert all(path.read_bytes() == content for path, content in written.items() if path.exists())
    monkeypatch.setattr(assets, "MAX_EMBEDDED", 10**9)
    write_report(folder)
    assert not (folder / assets.PICTURES).exists()


def test_a_diverged_fit_and_nan_are_shown(tmp_path):
    write_sound(tmp_path / "a.wav", torch.randn(2000) * 0.1)
    folder = run(tmp_path, source=tmp_path / "a.wav", lr=1e25, crit="L2", epochs=20)
    words = words_of(write_report(folder))
    assert "diverged" in words
    assert re.findall(r"\bnan\b", words, flags=re.IGNORECASE) == ["NaN"]  # the heading of a column


def test_published_values_are_shown(tmp_path):
    write_sound(tmp_path / "a.wav", torch.randn(4000) * 0.1)
    source = {"output_dir": tmp_path, "name": "run", "source": tmp_path / "a.wav"}
    published = {"where": "Table 3 <of it>", "values": {"si_snr": {"best": 5.42}}}
    plan = Plan(Config.of("denoise", **{**TINY, **source}), find_recordings(tmp_path / "a.wav"), published)
    (outcome,) = experiment.run_all([plan], draw_nothing)
    words = words_of(write_report(outcome.folder))
    assert "Published: Table 3 <of it>." in words
    assert re.search(r"SI-SNR \(dB\) [^ ]+ [^ ]+ [^ ]+ [^ ]+ 0 5\.42 –", words)


def test_the_errors_in_gaps_are_those_of_the_sounds():
    clean = np.ones(100, dtype=np.float32)
    half = np.where(np.arange(100) < 50, 1.0, 0.5).astype(np.float32)  # wrong from the middle of the first gap on
    errors = gap_errors({"clean": clean, "half": half, "same": clean}, spans_of([(0.4, 0.2), (0.8, 0.1)], 100))
    assert list(errors) == ["half", "same"]
    assert errors["half"].snr == pytest.approx([10 * math.log10(8), 10 * math.log10(4)])
    assert errors["half"].by_position[0] == pytest.approx(10 * math.log10(0.125))  # mean of 0 and 0.25
    assert errors["half"].by_position[-1] == pytest.approx(10 * math.log10(0.25))
    assert errors["half"].si_snr[0] == pytest.approx(10 * math.log10(9), abs=1e-4)
    assert max(errors["same"].by_position) < -100


def test_gaps_and_rooms_are_shown(tmp_path):
    folder = run(tmp_path, "inpaint", n_gaps=3, baselines=True, experiment_repetition=1)
    assert "Waveforms around the first gaps" in text_of(write_report(folder))
    repetition_dir, *_ = repetition_folders(folder)
    facts = json.loads((repetition_dir / "result.json").read_text())
    clean, filled = (soundfile.read(repetition_dir / f"{name}.wav")[0] for name in ("clean", "baseline_janssen"))
    first, *_ = facts["corruption"]["gaps"]
    span = slice(round(first[0] * 16000), round(sum(first) * 16000))
    snr = 10 * math.log10(sum(clean[span] ** 2) / sum((filled - clean)[span] ** 2))
    words = words_of(folder / page.REPORT)
    row = words[words.index(f"{first[0]:.3f} s, {1000 * first[1]:.3g} ms") :].split(" s, ")[1]
    assert tables.format_number(snr) in row
    assert "mean of 3" in words
    folder = run(tmp_path, "dereverb", experiment_repetition=1)
    text = text_of(write_report(folder))
    assert "Impulse response of the room" in text
    (repetition_dir,) = repetition_folders(folder)
    assert (repetition_dir / "rir.wav").exists()
    rt60 = json.loads((repetition_dir / "result.json").read_text())["corruption"]["rt60"]
    assert f"RT60 (s) {rt60:.3g}" in words_of(folder / page.REPORT)


def test_an_incomplete_config_is_refused(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    about = json.loads((folder / "config.json").read_text())
    del about["settings"], about["seed"]
    (folder / "config.json").write_text(json.dumps(about))
    with refused_as("damaged_results", r"config\.json: .*seed, settings"):
        write_report(folder)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with refused_as("damaged_results", str(tmp_path)):
        write_report(tmp_path)


def test_the_command_recreates_the_report_and_refuses_in_one_line(finished, tmp_path):
    (finished / page.REPORT).unlink(missing_ok=True)
    for folder, code in ((finished, 0), (tmp_path, 2)):
        command = [sys.executable, "-m", "dawp.report", str(folder), "--tensorboard", str(tmp_path / "tb")]
        env = {**environment(), "PYTHONPATH": str(ROOT)}
        result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert result.returncode == code, result.stderr
        assert len((result.stdout + result.stderr).splitlines()) == 1
    assert (finished / page.REPORT).exists()


def test_tensorboard_receives_curves_spectrograms_and_sounds(finished, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from dawp.report import tensorboard

    finished = shutil.copytree(finished, tmp_path / "in" / "denoise" / "run")
    (repetition_folders(finished)[0] / "best_pesq.wav").write_bytes(b"RIFF")  # skipped
    for _ in range(2):  # the second time replaces the first
        tensorboard.write(finished, tmp_path)
    for repetition_dir in repetition_folders(finished):
        events = EventAccumulator(
            str(tmp_path / "denoise" / "run" / repetition_dir.name), size_guidance={"audio": 0, "images": 0}
        )
        events.Reload()
        tags = events.Tags()
        rows = (repetition_dir / "metrics.csv").read_text().splitlines()
        column = rows[0].split(",").index("si_snr")
        expected = [float(row.split(",")[column]) for row in rows[1:]]
        assert [scalar.value for scalar in events.Scalars("si_snr")] == pytest.approx(expected)
        assert [scalar.step for scalar in events.Scalars("si_snr")] == [1, 2, 3]
        assert {"corrupted", "clean", "restored (blind stop)", "output"} <= set(tags["audio"])
        assert [sound.step for sound in events.Audio("output")] == [1, 2, 3]
        assert set(tags["images"]) == set(tags["audio"])
