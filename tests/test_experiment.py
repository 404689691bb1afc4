import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import soundfile
import torch
from conftest import ROOT, TINY, refused_as, write_sound

from dawp.config import Config
from dawp.io.files import exclusive_lock
from dawp.io.sources import Recording
from dawp.methods.deep_prior.generators.demucs import Demucs
from dawp.runs import experiment, repetition
from dawp.runs.folder import Plan


def no_pictures(folder, facts):
    pass


@pytest.fixture
def sounds(tmp_path):
    return [
        Recording(
            write_sound(tmp_path / "in" / f"{name}.wav", 0.1 * torch.randn(12000) * (1 + torch.arange(12000) / 4000))
        )
        for name in ("a", "b", "c")
    ]


def run(tmp_path, recordings, draw=no_pictures, **settings):
    config = Config.of("denoise", **{**TINY, "clip_length": 0.25, "output_dir": tmp_path / "evals", **settings})
    return experiment.run(config, recordings, draw)


def folders(outcome):
    return sorted(path.name for path in outcome.folder.iterdir() if path.is_dir())


def results(outcome):
    return [json.loads(path.read_text()) for path in sorted(outcome.folder.glob("*/result.json"))]


def test_the_layout_of_a_run(tmp_path, sounds):
    outcome = run(tmp_path, sounds[:1])
    assert outcome.folder.parent == tmp_path / "evals" / "denoise"
    assert {path.name for path in outcome.folder.iterdir()} == {
        "config.json",
        "summary.json",
        "summary.csv",
        "000_a",
    }
    assert {path.name for path in (outcome.folder / "000_a").iterdir()} == {
        "clean.wav",
        "corrupted.wav",
        "best_si_snr.wav",
        "best_psnr.wav",
        "best_pesq.wav",
        "restored.wav",
        "metrics.csv",
        "generator.pt",
        "result.json",
    }


def test_all_sounds_are_float32_and_aligned(tmp_path, sounds):
    repetition_dir = run(tmp_path, sounds[:1]).folder / "000_a"
    for path in repetition_dir.glob("*.wav"):
        info = soundfile.info(path)
        assert (info.frames, info.samplerate, info.subtype) == (4000, 16000, "FLOAT")
    clean, corrupted = (soundfile.read(repetition_dir / f"{name}.wav")[0] for name in ("clean", "corrupted"))
    assert 0.5 < (clean * corrupted).sum() / (clean**2).sum() < 1.5


def test_every_recording_is_used_once_or_cycled_through(tmp_path, sounds):
    once = run(tmp_path, sounds, name="once")
    assert sorted(name[4:] for name in folders(once)) == ["a", "b", "c"]
    seven = [name[4:] for name in folders(run(tmp_path, sounds, name="seven", experiment_repetition=7))]
    assert len(seven) == 7
    assert seven[:3] == seven[3:6]  # the order is drawn once and repeated
    assert sorted(seven[:3]) == ["a", "b", "c"]


def test_the_order_comes_from_the_seed(tmp_path, sounds):
    orders = {tuple(folders(run(tmp_path, sounds, name=f"{seed}", seed=seed, epochs=1))) for seed in range(6)}
    assert len(orders) > 1


def test_repetitions_of_a_recording_use_the_next_segment_and_other_noise(tmp_path, sounds):
    outcome = run(tmp_path, sounds[:1], experiment_repetition=4)
    cleans = [soundfile.read(outcome.folder / name / "clean.wav")[0] for name in folders(outcome)]
    shapes = [clip / abs(clip).max() for clip in cleans]
    assert abs(shapes[0] - shapes[1]).max() > 0.1
    assert abs(shapes[0] - shapes[3]).max() < 1e-3  # 0.75 s contain three segments
    noises = [
        soundfile.read(outcome.folder / n / "corrupted.wav")[0] / abs(c).max() - s
        for n, c, s in zip(folders(outcome), cleans, shapes, strict=True)
    ]
    assert abs(noises[0] - noises[3]).max() > 0.1


def test_a_finished_repetition_is_not_run_again_and_more_can_be_added(tmp_path, sounds):
    first = run(tmp_path, sounds, experiment_repetition=2)
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.glob("*/*")}
    again = run(tmp_path, sounds, experiment_repetition=2)
    assert (again.folder, again.done, again.skipped) == (first.folder, 0, 2)
    more = run(tmp_path, sounds, experiment_repetition=3)
    assert (more.folder, more.done, more.skipped) == (first.folder, 1, 2)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert json.loads((more.folder / "summary.json").read_text())["repetitions"] == 3


def test_an_unfinished_repetition_is_restarted(tmp_path, sounds):
    first = run(tmp_path, sounds[:1])
    repetition_dir = first.folder / "000_a"
    before = (repetition_dir / "metrics.csv").read_text()
    (repetition_dir / "result.json").unlink()
    (repetition_dir / "metrics.csv").write_text("rubbish")
    (repetition_dir / "left_over").write_text("rubbish")
    again = run(tmp_path, sounds[:1])
    assert again.done == 1
    assert (repetition_dir / "metrics.csv").read_text() == before
    assert not (repetition_dir / "left_over").exists()


def test_a_repetition_with_a_damaged_result_is_restarted(tmp_path, sounds):
    first = run(tmp_path, sounds[:2])
    (first.folder / folders(first)[1] / "result.json").write_text("{")
    again = run(tmp_path, sounds[:2])
    assert (again.done, again.skipped) == (1, 1)
    assert len(results(again)) == 2


def test_an_interruption_leaves_nothing_half_written(tmp_path, sounds):
    calls = []

    def interrupt_the_second(folder, facts):
        calls.append(folder)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, sounds, interrupt_the_second, name="x")
    folder = tmp_path / "evals" / "denoise" / "x"
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 1
    assert json.loads((folder / "summary.json").read_text())["repetitions"] == 1
    outcome = run(tmp_path, sounds, name="x")
    assert (outcome.done, outcome.skipped) == (2, 1)


@pytest.mark.parametrize("settings", [{}, {"checkpoint_every": None}])
def test_an_interruption_after_a_result_is_written_keeps_it(settings, tmp_path, sounds, monkeypatch):
    """With several processes, a result is written before the main process is notified."""

    def interrupted(*_):
        raise KeyboardInterrupt

    add_result = experiment._Run.add_result
    monkeypatch.setattr(experiment._Run, "add_result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, sounds, name="x", **settings)
    monkeypatch.setattr(experiment._Run, "add_result", add_result)
    folder = tmp_path / "evals" / "denoise" / "x"
    (there,) = folder.glob("*/result.json")
    assert not list(folder.rglob("*.checkpoint"))
    assert json.loads((folder / "summary.json").read_text())["repetitions"] == 1
    written = there.stat().st_mtime_ns
    outcome = run(tmp_path, sounds, name="x", **settings)
    assert (outcome.done, outcome.skipped) == (2, 1)
    assert there.stat().st_mtime_ns == written


def test_other_settings_have_another_folder(tmp_path, sounds):
    """In the public code, runs that differ in learning rate or epochs share a folder."""
    different = [
        {},
        {"lr": 0.01},
        {"epochs": 2},
        {"seed": 1},
        {"snr": 3.0},
        {"crit": "L2"},
        {"ema": 0.9},
        {"trim_start": 0.1},
    ]
    assert len({run(tmp_path, sounds[:1], **settings).folder for settings in different}) == len(different)
    assert run(tmp_path, sounds[1:2]).folder != run(tmp_path, sounds[:1]).folder


def test_a_folder_with_other_settings_is_refused_with_both_shown(tmp_path, sounds):
    run(tmp_path, sounds[:1], name="x", lr=0.01)
    with refused_as("output_exists", r"lr is 0\.01 in the folder and 0\.02 in this command"):
        run(tmp_path, sounds[:1], name="x", lr=0.02)
    with refused_as("output_exists", r"recordings is .*a\.wav.* in the folder and .*b\.wav"):
        run(tmp_path, sounds[1:2], name="x", lr=0.01)


def test_overwrite_restarts_the_run(tmp_path, sounds):
    run(tmp_path, sounds, name="x", lr=0.01)
    outcome = run(tmp_path, sounds[:1], name="x", lr=0.02, overwrite=True)
    assert (outcome.done, folders(outcome)) == (1, ["000_a"])
    assert json.loads((outcome.folder / "config.json").read_text())["settings"]["fit"]["lr"] == 0.02


def test_inputs_newer_than_their_results_are_reported(tmp_path, sounds, caplog):
    noise = write_sound(tmp_path / "noise" / "fan.wav", 0.1 * torch.randn(12000))
    pair = Recording(sounds[0].path, sounds[2].path)

    def again(recordings=sounds, **settings):
        caplog.clear()
        outcome = run(tmp_path, recordings, noise_source=noise.parent, **settings)
        return outcome, [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    (outcome, messages), (ofpair, _) = again(), again([pair])
    assert not messages
    results = [*outcome.folder.glob("*/result.json"), *ofpair.folder.glob("*/result.json")]
    before = {path: path.read_bytes() for path in results}
    later = max(path.stat().st_mtime for path in results) + 5
    assert again()[1] == []  # nothing has changed
    for changed, words in ((sounds[1].path, "_b: if the"), (noise, ", and 2 more: if the")):
        os.utime(changed, (later, later))
        outcome, (line,) = again()
        assert outcome.skipped == 3
        assert line.startswith(f"{changed} is newer than its results in {outcome.folder}/00")
        assert words in line
        assert again([pair])[1] == []  # a pair uses neither the noise nor that recording
        os.utime(changed, (0, 0))
    os.utime(sounds[0].path, (later, later))
    assert len(again([pair])[1]) == 1
    assert before == {path: path.read_bytes() for path in results}
    noise.unlink()  # finished results are kept
    assert again()[0].skipped == 3
    noise = write_sound(noise, 0.1 * torch.randn(12000))
    assert again(overwrite=True)[1] == []


def test_changes_in_several_runs_are_reported_once(tmp_path, sounds, caplog):
    plans = [
        Plan(
            Config.of("denoise", **{**TINY, "clip_length": 0.25, "output_dir": tmp_path / "evals", "snr": snr}), sounds
        )
        for snr in (0, 5)
    ]
    experiment.run_all(plans, no_pictures)
    later = max(path.stat().st_mtime for path in (tmp_path / "evals").glob("*/*/*/result.json")) + 5
    os.utime(sounds[0].path, (later, later))
    caplog.clear()
    experiment.run_all(plans, no_pictures)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert ", and 1 more: " in line


def test_overwrite_does_not_follow_links(tmp_path, sounds):
    first = run(tmp_path, sounds[:1], name="x")
    link = first.folder.with_name("link")
    link.symlink_to(first.folder, target_is_directory=True)
    with refused_as("output_exists", "link"):
        run(tmp_path, sounds[:1], name="link", seed=1, overwrite=True)
    assert (first.folder / "000_a" / "result.json").exists()


@pytest.mark.parametrize(
    "text", ["{}", '{"model": 1}', '{"identity": []}', "[", '{"task": "denoise", "identity": {"lr": 1}}']
)
def test_a_folder_with_another_config_is_not_a_run(tmp_path, sounds, text):
    foreign = tmp_path / "evals" / "denoise" / "x"
    foreign.mkdir(parents=True)
    (foreign / "config.json").write_text(text)
    for overwrite in (True, False):
        with refused_as("output_exists", r"config\.json"):
            run(tmp_path, sounds, name="x", overwrite=overwrite)
    assert (foreign / "config.json").read_text() == text


def test_overwrite_keeps_hidden_files_and_its_input(tmp_path, sounds):
    hidden = tmp_path / "evals" / "denoise" / "h" / ".git"
    hidden.mkdir(parents=True)
    assert run(tmp_path, sounds[:1], name="h", overwrite=True).done == 1
    assert hidden.exists()
    first = run(tmp_path, sounds[:1], name="x")
    own = Recording(first.folder / "000_a" / "best_si_snr.wav")
    with refused_as("output_exists", "--overwrite would"):
        run(tmp_path, [own], name="x", overwrite=True)
    assert own.path.exists()


def test_noise_std_is_part_of_a_run_only_where_it_has_an_effect(tmp_path, sounds):
    assert len({run(tmp_path, sounds[:1], noise_std=std).folder for std in (0.1, 0.2)}) == 1
    assert len({run(tmp_path, sounds[:1], noise_std=std, snr=None).folder for std in (0.1, 0.2)}) == 2


def test_a_run_killed_before_its_first_file_can_be_resumed(tmp_path, sounds):
    folder = tmp_path / "evals" / "denoise" / "x"
    folder.mkdir(parents=True)
    (folder / ".0123abcd.config.json").write_text("{")
    assert run(tmp_path, sounds[:1], name="x").done == 1


def test_the_run_name_states_pairs_and_folders(tmp_path, sounds, monkeypatch):
    pair = Recording(sounds[0].path, sounds[1].path)
    assert "-pairs-paper-" in run(tmp_path, [pair]).folder.name
    monkeypatch.chdir(tmp_path / "in")
    assert run(tmp_path, sounds[:1], source=".").folder.name.startswith("in-gaussian-2.5dB-paper-")


def test_overwrite_deletes_only_runs_and_only_if_the_new_one_can_start(tmp_path, sounds):
    precious = tmp_path / "evals" / "denoise" / "x" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    for overwrite in (True, False):
        with refused_as("output_exists", r"config\.json"):
            run(tmp_path, sounds, name="x", overwrite=overwrite)
    assert precious.exists()
    run(tmp_path, sounds[:1], name="y")
    bad = [Recording(write_sound(tmp_path / "silent.wav", torch.zeros(9000)))]
    before = {path: path.read_bytes() for path in (tmp_path / "evals/denoise/y").rglob("*") if path.is_file()}
    run(tmp_path, bad, name="y", overwrite=True)
    assert (tmp_path / "evals" / "denoise" / "y" / "000_a" / "result.json").exists()
    assert {path: path.read_bytes() for path in before} == before


def test_a_bad_recording_is_reported_and_the_others_run(tmp_path, sounds, caplog):
    bad = Recording(write_sound(tmp_path / "in" / "silent.wav", torch.zeros(9000)))
    outcome = run(tmp_path, [*sounds, bad])
    assert outcome.done == 3
    assert len(outcome.failures) == 1
    assert outcome.failure_codes == ["unusable_recording"]
    assert "silent.wav: is silent" in outcome.failures[0]
    assert "silent.wav: is silent" in caplog.text


def test_the_reason_of_a_refusal_is_kept_until_the_recording_is_done(tmp_path, sounds):
    bad = Recording(write_sound(tmp_path / "in" / "silent.wav", torch.zeros(9000)))

    def refused(outcome):
        return json.loads((outcome.folder / "summary.json").read_text())["refused"]

    first = run(tmp_path, [*sounds, bad])
    ((name, why),) = refused(first).items()
    assert name.endswith("_silent")
    assert "silent.wav: is silent" in why
    stamp = (first.folder / "summary.json").stat().st_mtime_ns
    assert refused(run(tmp_path, [*sounds, bad])) == {name: why}  # nothing else is run
    place = int(name[:3])
    assert refused(run(tmp_path, [*sounds, bad], experiment_repetition=place)) == {
        name: why
    }  # the recording is not used
    assert (first.folder / "summary.json").stat().st_mtime_ns == stamp
    write_sound(bad.path)
    assert refused(run(tmp_path, [*sounds, bad])) == {}


def test_nothing_is_written_when_no_recording_can_be_used(tmp_path):
    outcome = run(tmp_path, [Recording(write_sound(tmp_path / "silent.wav", torch.zeros(9000)))])
    assert outcome.folder is None
    assert not (tmp_path / "evals").exists()


def test_numbers_are_json_numbers_and_nan_is_null(tmp_path):
    tone = torch.sin(torch.arange(2000) / 5)  # too short for PESQ
    outcome = run(tmp_path, [Recording(write_sound(tmp_path / "tone.wav", tone))], clip_length=0.0)
    (result,) = results(outcome)
    assert isinstance(result["best"]["si_snr"]["value"], float)
    assert isinstance(result["best"]["si_snr"]["epoch"], int)
    assert result["best"]["pesq"] == {"value": None, "epoch": None, "gain": None, "si_snr": None}
    assert not (outcome.folder / "000_tone" / "best_pesq.wav").exists()
    summary = json.loads((outcome.folder / "summary.json").read_text())["metrics"]["pesq"]["best"]
    assert (summary["count"], summary["nan"], summary["mean"]) == (0, 1, None)


def test_the_snr_and_level_are_in_the_result(tmp_path, sounds):
    (result,) = results(run(tmp_path, sounds[:1], snr=7.0, level_dbfs=-20.0))
    assert result["corruption"]["snr_db"] == pytest.approx(7.0, abs=0.01)
    assert result["corruption"]["level_dbfs"] == pytest.approx(-20.0, abs=0.01)


def test_a_pair_is_not_corrupted(tmp_path):
    clean = 0.1 * torch.randn(4000)
    noisy = clean + 0.02 * torch.randn(4000)
    paths = [write_sound(tmp_path / f"{n}.wav", w, subtype="FLOAT") for n, w in (("clean", clean), ("noisy", noisy))]
    outcome = run(tmp_path, [Recording(*paths)])
    written = torch.from_numpy(soundfile.read(outcome.folder / "000_clean" / "corrupted.wav", dtype="float32")[0])
    assert torch.equal(written, noisy)
    assert results(outcome)[0]["pair"] == str(paths[1])


def test_a_pair_of_identical_recordings_is_refused(tmp_path, sounds):
    outcome = run(tmp_path, [replace(sounds[0], corrupted=sounds[0].path)])
    assert outcome.failure_codes == ["unusable_recording"]
    assert "equals the clean one" in outcome.failures[0]


def test_the_generator_file_loads_safely_and_reproduces_the_best_output(tmp_path, sounds):
    repetition_dir = run(tmp_path, sounds[:1], epochs=10, lr=0.01).folder / "000_a"
    kept = torch.load(repetition_dir / "generator.pt", weights_only=True)
    generator = Demucs(Config.of("denoise", **TINY).generator)
    generator.load_state_dict(kept["state_dict"])
    best = torch.from_numpy(soundfile.read(repetition_dir / "best_si_snr.wav", dtype="float32")[0])
    torch.testing.assert_close(generator(kept["z"], len(best))[0, 0].detach(), best)


def test_config_json_contains_everything_to_repeat_the_run(tmp_path, sounds):
    about = json.loads((run(tmp_path, sounds[:1]).folder / "config.json").read_text())
    assert about["task"] == "denoise"
    assert about["seed"] == 0
    assert about["device"] == "cpu"
    assert about["versions"]["torch"].startswith("2.")
    assert about["settings"]["fit"]["lr"] == 1e-4
    assert about["settings"]["run"]["output_dir"] == str(tmp_path / "evals")
    assert about["identity"]["recordings"] == [[str(sounds[0].path)]]


def test_same_seed_same_numbers(tmp_path, sounds):
    texts = [
        (run(tmp_path, sounds[:1], name=name, seed=seed).folder / "000_a" / "metrics.csv").read_text()
        for name, seed in (("one", 0), ("two", 0), ("three", 1))
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_a_diverged_fit_is_reported_kept_and_not_run_again(tmp_path, sounds):
    outcome = run(tmp_path, sounds[:1], lr=1e30, epochs=30)
    assert outcome.failure_codes == ["fit_diverged"]
    assert results(outcome)[0]["error"] in outcome.failures[0]
    assert (outcome.folder / "000_a" / "best_psnr.wav").exists()
    again = run(tmp_path, sounds[:1], lr=1e30, epochs=30)
    assert (again.done, again.skipped, again.failures) == (0, 1, outcome.failures)
    assert again.failure_codes == outcome.failure_codes


@pytest.mark.parametrize(
    "error", [MemoryError, torch.OutOfMemoryError, RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_does_not_stop_the_other_recordings(tmp_path, sounds, monkeypatch, error):
    solve = repetition.solve

    def short_of_memory(problem, config, number, *others):
        if number == 1:
            raise error
        return solve(problem, config, number, *others)

    monkeypatch.setattr(repetition, "solve", short_of_memory)
    outcome = run(tmp_path, sounds)
    assert (outcome.done, len(folders(outcome))) == (2, 2)
    assert outcome.failure_codes == ["out_of_memory"]
    assert "clip_length" in outcome.failures[0]
    monkeypatch.setattr(repetition, "solve", lambda *others: short_of_memory(None, None, 1))
    assert run(tmp_path, sounds, name="none").folder is None
    assert not (tmp_path / "evals" / "denoise" / "none").exists()


def test_outputs_are_saved_every_show_every_epochs(tmp_path, sounds):
    drawn = []
    outcome = run(
        tmp_path, sounds[:1], lambda folder, facts: drawn.append(bool(facts)), epochs=5, show_every=2, save_outputs=True
    )
    outputs = sorted((outcome.folder / "000_a" / "outputs").iterdir())
    assert [path.name for path in outputs] == ["epoch_00002.wav", "epoch_00004.wav"]
    assert soundfile.info(outputs[0]).frames == 4000
    assert drawn == [False, False, True]


def test_a_second_command_on_the_same_run_is_refused_and_names_the_first(tmp_path, sounds):
    refusals = []

    def meanwhile(folder, facts):
        if not refusals:
            for overwrite in (False, True):
                with refused_as("in_use", f"process {os.getpid()} on ") as refusal:
                    run(tmp_path, sounds, name="r", overwrite=overwrite)
                refusals.append(str(refusal.value))

    outcome = run(tmp_path, sounds, meanwhile, name="r")
    assert outcome.done == 3
    assert len(results(outcome)) == 3
    assert len(refusals) == 2
    assert run(tmp_path, sounds, name="r").skipped == 3
    assert not list(outcome.folder.glob(".*"))


def test_a_killed_command_holds_no_lock(tmp_path):
    code = (
        "import os, pathlib, sys; from dawp.io.files import exclusive_lock; folder = pathlib.Path(sys.argv[1])\n"
        "with exclusive_lock(folder):\n    print('held', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with refused_as("in_use", f"process {process.pid} on "), exclusive_lock(tmp_path):
        pass
    process.kill()
    process.communicate()
    with exclusive_lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_in_use_does_not_stop_the_others(tmp_path):
    write_sound(tmp_path / "a.wav", torch.randn(4000) * 0.1)
    recordings = [Recording(tmp_path / "a.wav")]
    plans = [
        Plan(Config.of("denoise", **{**TINY, "output_dir": tmp_path, "name": name}), recordings)
        for name in ("one", "two", "three")
    ]
    held_folder = tmp_path / "denoise" / "two"
    held_folder.mkdir(parents=True)
    with exclusive_lock(held_folder):
        one, two, three = experiment.run_all(plans, no_pictures)
    assert [outcome.done for outcome in (one, two, three)] == [1, 0, 1]
    assert two.failure_codes == ["in_use"]
    assert f"process {os.getpid()} " in two.failures[0]
    assert (tmp_path / "denoise" / "three" / "summary.json").exists()
    assert [outcome.done for outcome in experiment.run_all(plans, no_pictures)] == [0, 1, 0]
