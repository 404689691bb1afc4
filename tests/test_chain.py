"""Tests of chains: the parsing of --corrupt, the corruption in order and the restoration in the reverse order."""

import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, SAMPLES, call_main, refused_as, write_sound

import dawp
from dawp.config import Config
from dawp.io.sources import Recording
from dawp.restoration import files
from dawp.restoration.block_cache import cache_folder, open_cache
from dawp.tasks.base import TASKS, make_problem


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def chain_of(text, **settings):
    return Config.of("chain", corrupt=text, **settings)


def corrupted(text, clean, seed=0):
    return make_problem("chain", clean, None, RATE, chain_of(text).corruption, rng(seed))


def noise_of(problem):
    """Return the SNR in dB between the observed and the clean clip of a problem."""
    error = (problem.observed - problem.clean).double()
    return 10 * float(torch.log10(problem.clean.double().square().sum() / error.square().sum()))


# The flag


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("dereverb | denoise", [("dereverb", {}), ("denoise", {})]),
        ("reverb:rt60=0.3|noise:snr=10", [("dereverb", {"rt60": "0.3"}), ("denoise", {"snr": "10"})]),
        (" denoise : snr = 10 , seed=3 ", [("denoise", {"snr": "10", "seed": "3"})]),
        ("dereverb:room_dim=5,4,3,rt60=0.2", [("dereverb", {"room_dim": "5,4,3", "rt60": "0.2"})]),
        ("gap:gaps=0.1:0.002,0.2:0.002", [("inpaint", {"gaps": "0.1:0.002,0.2:0.002"})]),
        ("declip:clip_sdr=5 | declip", [("declip", {"clip_sdr": "5"}), ("declip", {})]),
    ],
)
def test_a_chain_is_parsed(text, stages):
    parsed = chain_of(text).corruption.stages
    assert [(stage.task, stage.settings) for stage in parsed] == stages


BAD = [
    "",
    " | ",
    "denoise |",
    "no_such_task",
    "chain",
    "denoise:",
    "denoise:snr",
    "denoise:snr=1,snr=2",
    "denoise:snr=abc",
    "denoise:snr=nan",
    "denoise:snrr=1",
    "denoise:gap_ms=2",
    "denoise:ray_tracing=true",
    "dereverb:ray_tracing=maybe",
    "denoise:method=a_spade",
    "denoise:clip_mode=clamp",
    "denoise:method=nmf,epochs=3",
    "denoise:noise_source=missing.wav",
    *(f"denoise:{name}=1" for name in ("output", "restore", "source", "device", "workers", "json", "save_removed")),
    "denoise:\x1b[31m=1",
    "denoise:snr=1\n2",
]


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("text", BAD)
def test_a_bad_chain_is_refused_in_one_line(text, restore, tmp_path):
    write_sound(tmp_path / "a.wav")
    arguments = ["--corrupt", text, "--source", "a.wav", *(["--restore"] if restore else [])]
    process = call_main("chain", arguments, tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("chain.py: error: --corrupt must ")
    assert process.stderr.count("\n") == 1
    assert process.stderr[:-1].isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_settings_of_the_other_mode_are_refused():
    write = "dereverb:rir={} | denoise"
    with refused_as("not_found", "corrupt must"):
        chain_of(write.format("missing.wav"))
    with refused_as("invalid_setting", "corrupt must"):
        chain_of("inpaint:gaps=auto")
    assert chain_of("inpaint:gaps=auto", restore=True, preset="restore").stages[0].task == "inpaint"
    with refused_as("invalid_setting", "corrupt must"):
        chain_of("bandwidth:target_rate=44100 | denoise", restore=True, preset="restore")


def test_a_room_response_needs_a_restoration(tmp_path):
    path = write_sound(tmp_path / "hall.wav", torch.eye(1, 100)[0])
    with refused_as("invalid_setting", "rir needs --restore"):
        chain_of(f"dereverb:rir={path}")
    config = chain_of(f"dereverb:rir={path} | denoise", restore=True, preset="restore")
    assert [stage.restoration.method for stage in config.stages] == ["deep_prior", "least_squares"]


# The corruption


@pytest.mark.parametrize("task", [task for task in TASKS if task != "chain"])
def test_a_chain_of_one_task_is_that_task(task, speech):
    room = "room_dim=5,4,3,source_pos=1,1,1,mic_pos=3,2,1.5"
    chain = corrupted(f"{task}:{room}" if task == "dereverb" else task, speech)
    config = chain_of(f"{task}:{room}" if task == "dereverb" else task).corruption.corruptions()[0][1]
    alone = make_problem(task, speech, None, RATE, config, rng())
    assert torch.equal(chain.observed, alone.observed)
    assert torch.equal(chain.clean, alone.clean)
    assert chain.facts == {f"1_{task}_{name}": value for name, value in alone.facts.items()}


def test_the_tasks_corrupt_in_order(speech):
    noisy_then_clipped = corrupted("denoise:snr=10 | declip:clip_level=0.05", speech)
    clipped_then_noisy = corrupted("declip:clip_level=0.05 | denoise:snr=10", speech)
    assert noisy_then_clipped.observed.abs().max() == pytest.approx(0.05)
    level = clipped_then_noisy.observed.abs()
    assert (level == level.max()).sum() == 1


def test_the_clean_clip_has_the_level_of_its_corrupted_version(speech):
    problem = corrupted("denoise:snr=30 | denoise:snr=30 | inpaint", speech)
    assert noise_of(problem) == pytest.approx(27, abs=0.5)
    ratio = problem.clean / problem.clean.abs().max() - speech / speech.abs().max()
    assert ratio.abs().max() < 1e-5


@pytest.mark.parametrize("reference", ["direct", "dry"])
def test_the_clean_clip_is_aligned_with_a_room_after_noise(reference, speech):
    """Noise at 60 dB changes little, so the problem is nearly that of the room alone, up to a gain."""
    room = f"dereverb:room_dim=5,4,3,source_pos=1,1,1,mic_pos=3,2,1.5,reference={reference}"
    alone = corrupted(room, speech)
    after = corrupted(f"denoise:snr=60 | {room}", speech)
    gain = float(after.clean @ alone.clean / (alone.clean @ alone.clean))
    torch.testing.assert_close(after.clean / gain, alone.clean, rtol=0, atol=1e-4)
    torch.testing.assert_close(after.observed / gain, alone.observed, rtol=0, atol=2e-3)


def test_the_seed_decides_every_draw(speech):
    text = "denoise:snr=5 | inpaint:gap_ms=5"
    first, again, other = (corrupted(text, speech, seed) for seed in (0, 0, 1))
    assert torch.equal(first.observed, again.observed)
    assert first.facts == again.facts
    assert first.facts["2_inpaint_gaps"] != other.facts["2_inpaint_gaps"]


def test_a_refusal_names_the_stage(speech):
    with refused_as("invalid_setting", "stage 2, declip"):
        corrupted("denoise | declip:clip_level=9", speech)
    with refused_as("unusable_recording", "stage 1, denoise"):
        corrupted("denoise", torch.zeros(1000))


# Experiments


@pytest.mark.slow
def test_an_experiment_compares_the_stages_with_the_clean_clip(run_task, tmp_path):
    chain = "denoise:snr=5,method=log_mmse | declip:clip_sdr=6,method=a_spade"
    flags = ("--corrupt", chain, "--source", SAMPLES / "speech.wav", "--clip_length", 0.5, "--name", "x", "--baselines")
    process = run_task("chain", *flags)
    assert process.returncode == 0, process.stderr
    folder = tmp_path / "evals" / "chain" / "x" / "000_speech"
    result = json.loads((folder / "result.json").read_text())
    assert result["corruption"]["1_denoise_snr_db"] == pytest.approx(5, abs=0.5)
    assert result["corruption"]["2_declip_sdr_db"] == pytest.approx(6, abs=0.1)
    assert list(result["baselines"]) == ["stages"]
    assert result["baselines"]["stages"]["metrics"]["si_snr"]["gain"] > 1
    observed = torch.from_numpy(soundfile.read(folder / "corrupted.wav", dtype="float32")[0])
    expected = dawp.restore(observed, RATE, "declip", method="a_spade")
    expected = dawp.restore(expected, RATE, "denoise", method="log_mmse")
    baseline = soundfile.read(folder / "baseline_stages.wav", dtype="float32")[0]
    assert np.abs(baseline - expected.numpy()).max() < 1e-6


# Restoration


def tone(seconds, rate=RATE):
    time = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 660 * time)).astype(np.float32)


@pytest.fixture
def damaged(tmp_path):
    """Write a clipped recording of two channels with noise: FLAC with a tag, 24 bits."""
    path = tmp_path / "damaged.flac"
    samples = np.stack([tone(1.5), 0.5 * tone(1.5)], axis=1).clip(-0.3, 0.3)
    samples += 0.01 * np.random.default_rng(0).standard_normal(samples.shape)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_24") as file:
        file.title = "Side A"
        file.write(samples)
    return path


CHAIN = "declip:clip_level=0.28 | denoise:method=wiener"
WORK = ("--workers", "1", "--device", "cpu")


def restore(folder, *flags, task="chain"):
    return call_main(task, ["--restore", *WORK, *map(str, flags)], folder)


def test_the_tasks_restore_in_the_reverse_order(damaged, tmp_path):
    process = restore(tmp_path, "--corrupt", CHAIN, "--source", "damaged.flac", "-o", "out.flac")
    assert process.returncode == 0, process.stderr
    flags = ("--method", "wiener", "--source", "damaged.flac", "-o", "1.wav", "--subtype", "FLOAT")
    assert restore(tmp_path, *flags, task="denoise").returncode == 0
    flags = ("--clip_level", 0.28, "--source", "1.wav", "-o", "2.flac", "--subtype", "PCM_24")
    assert restore(tmp_path, *flags, task="declip").returncode == 0
    one, two = (soundfile.read(tmp_path / name)[0] for name in ("out.flac", "2.flac"))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, soundfile.read(damaged)[0])
    with soundfile.SoundFile(tmp_path / "out.flac") as file:
        assert (file.title, file.subtype, file.channels, file.frames) == ("Side A", "PCM_24", 2, 1.5 * RATE)
    assert not list(tmp_path.glob(".*"))


def test_the_record_has_every_stage(damaged, tmp_path):
    flags = ("--corrupt", CHAIN, "--source", "damaged.flac", "-o", "out.wav", "--save_removed", "removed.wav")
    process = restore(tmp_path, *flags, "--subtype", "FLOAT")
    assert process.returncode == 0, process.stderr
    record = json.loads((tmp_path / "out.wav.json").read_text())
    assert (record["task"], record["recording"], record["subtype"]) == ("chain", "damaged.flac", "FLOAT")
    assert record["settings"]["corrupt"] == CHAIN
    assert [stage["task"] for stage in record["stages"]] == ["denoise"]
    assert record["stages"][0]["sha256"] == record["sha256"]
    before, after, removed = (soundfile.read(tmp_path / name)[0] for name in ("damaged.flac", "out.wav", "removed.wav"))
    assert np.abs(before - after - removed).max() < 1e-6


@pytest.mark.parametrize("stop", ["first", "last"])
def test_an_interrupted_chain_resumes_after_its_finished_stages(stop, damaged, tmp_path, monkeypatch):
    restored = []
    finish = files.FileRestoration.finish

    def interrupted(self):
        if (stop == "first") == self.target.is_intermediate:
            raise KeyboardInterrupt
        finish(self)

    def counted(self):
        restored.append(self.target.is_intermediate)
        finish(self)

    flags = ("--corrupt", CHAIN, "--source", "damaged.flac", "-o", "out.wav")
    monkeypatch.setattr(files.FileRestoration, "finish", interrupted)
    assert restore(tmp_path, *flags).returncode == 130
    assert not (tmp_path / "out.wav").exists()
    monkeypatch.setattr(files.FileRestoration, "finish", counted)
    process = restore(tmp_path, *flags)
    assert process.returncode == 0, process.stderr
    assert restored == ([True, False] if stop == "first" else [False])
    assert not list(tmp_path.glob(".*"))
    monkeypatch.setattr(files.FileRestoration, "finish", finish)
    assert restore(tmp_path, *flags[:-1], "again.wav").returncode == 0
    assert (tmp_path / "out.wav").read_bytes() == (tmp_path / "again.wav").read_bytes()


def test_a_stage_of_other_settings_is_not_reused(damaged, tmp_path):
    flags = ("--source", "damaged.flac", "-o", "out.wav", "--corrupt")
    other = "declip:clip_level=0.28 | denoise:method=log_mmse"
    config = chain_of(CHAIN, restore=True, preset="restore", output=tmp_path / "out.wav", workers=1)
    plans = [(target, config) for target in files.plan_targets(config, [Recording(None, damaged)])]
    target, stage = files.Chain(*plans[0]).stage(0)
    target.output.parent.mkdir(parents=True)
    write_sound(target.output, torch.zeros(100))
    assert cache_folder(tmp_path / "out.wav") in target.output.parents
    assert stage.restoration.subtype == "FLOAT"
    process = restore(tmp_path, *flags, other)
    assert process.returncode == 0, process.stderr
    assert soundfile.info(tmp_path / "out.wav").frames == 1.5 * RATE


def test_another_command_on_the_same_output_is_refused(damaged, tmp_path):
    config = chain_of(CHAIN, restore=True, preset="restore", output=tmp_path / "out.wav")
    (target,) = files.plan_targets(config, [Recording(None, damaged)])
    intermediate = files.Chain(target, config).stage(0)[0].output
    intermediate.parent.mkdir(parents=True)
    flags = ("--corrupt", CHAIN, "--source", damaged, "-o", tmp_path / "out.wav", "--json")
    with open_cache(intermediate, {}):
        process = restore(tmp_path, *flags)
    assert process.returncode == 2
    outcome = json.loads(process.stdout)
    assert outcome["code"] == "in_use"
    assert outcome["error"].startswith(str(tmp_path / "out.wav"))
    assert restore(tmp_path, *flags).returncode == 0
    assert not list(tmp_path.glob(".*"))


def test_a_bad_recording_is_skipped_in_every_stage(damaged, tmp_path):
    (tmp_path / "in").mkdir()
    damaged.rename(tmp_path / "in" / "a.flac")
    write_sound(tmp_path / "in" / "b.wav", torch.zeros(RATE))
    (tmp_path / "in" / "c.wav").write_bytes(b"no sound")
    flags = ("--corrupt", CHAIN, "--source", "in", "-o", "out", "--json")
    process = restore(tmp_path, *flags)
    assert process.returncode == 3, process.stderr
    outcome = json.loads(process.stdout)
    assert (outcome["done"], outcome["skipped"], len(outcome["failures"])) == (1, 0, 2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.flac", "a.flac.json"]
    outcome = json.loads(restore(tmp_path, *flags).stdout)
    assert (outcome["done"], outcome["skipped"], len(outcome["failures"])) == (0, 1, 2)


def test_a_waveform_is_restored_by_every_stage(speech):
    observed = corrupted("declip:clip_sdr=8 | denoise:snr=20", speech[:8000]).observed
    restored = dawp.restore(observed, RATE, "chain", corrupt="declip | denoise:method=wiener")
    expected = dawp.restore(dawp.restore(observed, RATE, "denoise", method="wiener"), RATE, "declip")
    assert torch.equal(restored, expected)


def test_the_seed_applies_to_every_stage():
    config = chain_of("declip | denoise:seed=7", restore=True, preset="restore", seed=3, device="cpu", threads=2)
    assert [(stage.fit.seed, stage.fit.device, stage.work.threads) for stage in config.stages] == [
        (7, "cpu", 2),
        (3, "cpu", 2),
    ]
    assert config.effective()["seed"] == 3
    assert "seed" not in chain_of("declip", restore=True, preset="restore").effective()
    assert "strength" not in config.effective()


def test_a_chain_of_one_task_restores_as_the_task_does(tmp_path):
    """Times are those of the recording, blocks those of the method, and all channels are restored together."""
    noise = torch.randn(6 * RATE, 2, generator=torch.Generator().manual_seed(0))
    soundfile.write(tmp_path / "a.wav", 0.1 * noise.numpy(), RATE)
    flags = ["--restore", "--source", "a.wav", "--quiet"]
    settings = {"gaps": "1.0:0.005", "method": "linear"}
    stage = ",".join(f"{name}={value}" for name, value in settings.items())
    alone = call_main("inpaint", [*flags, *(f"--{n}={v}" for n, v in settings.items()), "-o", "x.wav"], tmp_path)
    chain = call_main("chain", [*flags, "--corrupt", f"inpaint:{stage}", "-o", "y.wav"], tmp_path)
    assert (alone.returncode, chain.returncode) == (0, 0)
    assert (tmp_path / "x.wav").read_bytes() == (tmp_path / "y.wav").read_bytes()
    records = [json.loads((tmp_path / f"{name}.wav.json").read_text()) for name in "xy"]
    assert records[0]["blocks"] == records[1]["blocks"]
    assert records[0]["changed"] == records[1]["changed"]
