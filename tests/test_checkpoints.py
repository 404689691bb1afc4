import hashlib
import io
import logging
import math
import time

import pytest
import torch
from conftest import TINY

from dawp.config import Config
from dawp.methods.deep_prior import checkpoints
from dawp.methods.deep_prior.checkpoints import Checkpoint, Checkpoints, clear
from dawp.methods.deep_prior.solver import fit_ahead, solve
from dawp.parallel.progress import progress_bar
from dawp.randomness import seeded
from dawp.tasks.base import make_problem

EPOCHS = 60


class Killed(BaseException):
    pass


def tiny_problem(task, speech, **settings):
    config = Config.of(task, **{**TINY, "epochs": EPOCHS, "lr": 0.01, "pesq_every": 7, **settings})
    rng = seeded(config.fit.seed, "corruption")
    return config, make_problem(task, speech, None, 16000, config.corruption, rng)


def facts(result):
    reproducible = {name: value for name, value in result.facts().items() if name != "seconds"}
    return str(reproducible), str(result.history.rows), result.restored.waveform.tolist()


VARIANTS = {
    "gaps": ("inpaint", {"n_gaps": 3, "gap_ms": 5}),
    "input redrawn": ("denoise", {"resample_input": True}),
    "LSTM, holdout, patience": ("denoise", {"lstm_layers": 1, "stop": "holdout", "patience": 20}),
    "several fits": ("denoise", {"fits": 3, "stop": "holdout", "estimate": "mask", "epochs": 25}),
    "last epoch, no mean": ("denoise", {"stop": "epochs", "estimate": "output", "ema": 0, "normalize": False}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fit_that_is_killed_repeatedly_gives_the_same_results(variant, speech, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_OVERHEAD", math.inf)  # a checkpoint in every epoch
    task, settings = VARIANTS[variant]
    config, problem = tiny_problem(task, speech, checkpoint_every=1e-9, **settings)
    expected = solve(problem, config)
    first_epochs, kills = [], 0
    while True:
        epochs_of_this_try = []

        def on_epoch(step, history, seen=epochs_of_this_try):
            seen.append(step.epoch)
            if len(seen) == 17:
                raise Killed

        try:
            result = solve(problem, config, on_epoch=on_epoch, checkpoints=Checkpoints(tmp_path))
        except Killed:
            kills += 1
            first_epochs.append(epochs_of_this_try[0])
            assert kills < 20
            continue
        break
    assert kills >= 1
    assert first_epochs == sorted(set(first_epochs))  # each attempt resumes later than the previous one
    assert facts(result) == facts(expected)
    assert all(
        torch.equal(tensor, result.generator["state_dict"][name])
        for name, tensor in expected.generator["state_dict"].items()
    )


def test_later_fits_resume_within_the_fit(speech, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_OVERHEAD", math.inf)
    config, problem = tiny_problem("denoise", speech, fits=3, stop="holdout", epochs=20, checkpoint_every=1e-9)
    expected = solve(problem, config)
    save, saves = Checkpoint.save, []

    def killed_at_times(self, state):
        save(self, state)
        saves.append(self._path.name)
        if len(saves) % 13 == 0:
            raise Killed

    monkeypatch.setattr(Checkpoint, "save", killed_at_times)
    for _ in range(20):
        try:
            result = solve(problem, config, checkpoints=Checkpoints(tmp_path))
        except Killed:
            continue
        break
    assert {"fit_0.checkpoint", "fit_1.checkpoint", "fit_2.checkpoint"} == set(saves)
    assert facts(result) == facts(expected)


def test_a_checkpoint_is_kept_when_memory_runs_out(tmp_path, monkeypatch):
    Checkpoint(tmp_path / "a.checkpoint", 1, "digest").save({"epoch": 1})
    for error in (MemoryError(), RuntimeError("can't allocate memory"), OSError("I/O error")):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "load", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
            with pytest.raises(type(error)):
                Checkpoint(tmp_path / "a.checkpoint", 1, "digest").load()
    assert Checkpoint(tmp_path / "a.checkpoint", 1, "digest").load()["epoch"] == 1


def test_fits_done_ahead_in_any_order_are_used(speech, tmp_path):
    config, problem = tiny_problem("denoise", speech, fits=3, stop="holdout", epochs=20)
    expected = solve(problem, config)
    for number in (2, 0, 1):
        with progress_bar(20, None) as bar:
            fit_ahead(problem, config, 0, number, bar, None, Checkpoints(tmp_path))
    epochs = []
    result = solve(problem, config, on_epoch=lambda step, _: epochs.append(step), checkpoints=Checkpoints(tmp_path))
    assert epochs == []
    assert facts(result) == facts(expected)


@pytest.mark.parametrize(
    "damage", ["cut off", "one bit", "empty", "text", "another clip's", "other settings'", "a pickle"]
)
def test_a_checkpoint_that_cannot_be_used_is_set_aside(damage, speech, tmp_path, caplog):
    config, problem = tiny_problem("denoise", speech, fits=2, epochs=5)
    expected = solve(problem, config)
    solve(problem, config, checkpoints=Checkpoints(tmp_path))
    path = tmp_path / "fit_1.checkpoint"
    content = path.read_bytes()
    if damage == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "one bit":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "another clip's":
        solve(tiny_problem("denoise", -speech, fits=2, epochs=5)[1], config, checkpoints=Checkpoints(tmp_path))
    elif damage == "other settings'":
        other = tiny_problem("denoise", speech, fits=2, epochs=5, lr=0.02)[0]
        solve(problem, other, checkpoints=Checkpoints(tmp_path))
    else:
        made = io.BytesIO()
        torch.save({"digest": Config}, made)  # a class, which must not be unpickled
        path.write_bytes(hashlib.sha256(made.getvalue()).digest() + made.getvalue())
    with caplog.at_level(logging.WARNING):
        result = solve(problem, config, checkpoints=Checkpoints(tmp_path))
    assert facts(result) == facts(expected)
    assert "fit_1.checkpoint" in caplog.text
    assert (tmp_path / "fit_1.checkpoint.unusable").exists()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".unusable")] == []


def test_the_interval_of_checkpoints_and_their_cost(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "a.checkpoint", 30, "digest", lambda path: now.__setitem__(0, now[0] + 4))
    assert not checkpoint.is_due
    now[0] += 30
    assert checkpoint.is_due
    checkpoint.save({"fit": None})  # takes 4 s
    now[0] += 79
    assert not checkpoint.is_due
    now[0] += 2
    assert checkpoint.is_due
    assert not Checkpoint(tmp_path / "b.checkpoint", None, "digest").is_due


def test_a_failed_write_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a.checkpoint", 1, "digest")
    checkpoint.save({"fit": None, "epoch": 1})
    monkeypatch.setattr("os.fsync", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save({"fit": None, "epoch": 2})
    monkeypatch.undo()
    assert checkpoint.load()["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.checkpoint"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_fit_on_cuda_resumes(speech, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_OVERHEAD", math.inf)
    config, problem = tiny_problem("denoise", speech, checkpoint_every=1e-9, device="cuda")
    expected = solve(problem, config)

    def stop(step, history):
        if step.epoch == 40:
            raise Killed

    with pytest.raises(Killed):
        solve(problem, config, on_epoch=stop, checkpoints=Checkpoints(tmp_path))
    epochs = []
    result = solve(
        problem, config, on_epoch=lambda step, _: epochs.append(step.epoch), checkpoints=Checkpoints(tmp_path)
    )
    assert epochs == list(range(40, EPOCHS + 1))
    assert result.history.column("loss") == pytest.approx(expected.history.column("loss"), rel=0.02)


def test_checkpoints_are_found_by_fit(tmp_path):
    for number in (1, 11):
        checkpoints.path_of(tmp_path, number).touch()
    (tmp_path / ".0a1b2c3d.fit_2.checkpoint").touch()
    assert [path.name for path in checkpoints.found(tmp_path)] == ["fit_1.checkpoint", "fit_11.checkpoint"]
    assert [path.name for path in checkpoints.found(tmp_path, 1)] == ["fit_1.checkpoint"]
    assert checkpoints.found(tmp_path, 2) == []
