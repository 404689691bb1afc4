import ast
import logging
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SAMPLES, TINY, call_main, environment, numbers, running, write_sound

from dawp.config import Config
from dawp.errors import BadInput
from dawp.parallel import allocation
from dawp.parallel.jobs import Job, WorkItem
from dawp.parallel.progress import ProgressBars, format_duration
from dawp.parallel.scheduler import run_jobs
from dawp.restoration.channels import progress_bars

CPU = pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc to look for processes in")

# Functions that jobs run in other processes


def answer(folder, line, part, number, together=1):
    (folder / f"{os.getpid()}.pid").touch()
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.pid"))) < together and time.monotonic() < deadline:
        time.sleep(0.01)
    logging.getLogger("dawp.test").warning("number %d", number)
    line.update(3)
    return number, os.getpid(), torch.get_num_threads()


def in_parts(folder, line, part, log):
    with (folder / log).open("a") as file:
        file.write(f"{'all' if part is None else part}\n")
    return sorted((folder / log).read_text().split())


def die(folder, line, part, mark, times):
    tries = folder / mark
    with tries.open("a") as file:
        file.write("x")
    if len(tries.read_text()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def leave(folder, line, part):
    os._exit(7)


def refuse(folder, line, part):
    raise BadInput("no good", code="unusable_recording")


def refuse_first(folder, line, part):
    if part == 0:
        raise BadInput("no good")
    time.sleep(1)
    (folder / f"part {part}").touch()


def fail(folder, line, part):
    raise ZeroDivisionError("a bug")


def sleep(folder, line, part, seconds):
    time.sleep(seconds)


def run(jobs, config, fits, bars):
    return run_jobs(iter(jobs), config.work, config.fit.device, fits, bars)


def done(jobs, fits=2, **settings):
    config = Config.of("denoise", **{**TINY, "workers": 2, **settings})
    with ProgressBars(fits, config.fit.epochs, None) as bars, closing(run(jobs, config, fits, bars)) as over:
        return {job.name: (value, error) for job, value, error in over}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_returns_its_value_and_the_number_of_processes_is_the_setting(workers, tmp_path, caplog):
    jobs = [Job(f"job {number}", tmp_path, answer, (number, workers), 1) for number in range(7)]
    with caplog.at_level(logging.WARNING):
        values = {name: value for name, (value, _) in done(jobs, 7, workers=workers).items()}
    assert [values[f"job {number}"][0] for number in range(7)] == list(range(7))
    assert {threads for _, _, threads in values.values()} == {1}
    pids = {pid for _, pid, _ in values.values()}
    assert len(pids) == workers
    assert (os.getpid() in pids) == (workers == 1)
    assert sorted(record.message for record in caplog.records) == [f"number {number}" for number in range(7)]


def test_parts_run_before_the_final_step(tmp_path):
    jobs = [Job(name, tmp_path, in_parts, (name,), 3) for name in ("a", "b")]
    values = done(jobs, 6)
    assert values == {name: (["0", "1", "2", "all"], None) for name in ("a", "b")}
    assert (tmp_path / "a").read_text().split()[-1] == "all"
    one_by_one = done([Job("c", tmp_path, in_parts, ("c",), 3)], 6, workers=1)
    assert one_by_one == {"c": (["all"], None)}


def test_a_job_whose_process_dies_is_retried_once(tmp_path, caplog):
    jobs = [
        Job("once.wav", tmp_path, die, ("once", 1), 1),
        Job("always.wav", tmp_path, die, ("always", 9), 1),
        Job("leaves.wav", tmp_path, leave, (), 1),
        *(Job(f"good {number}", tmp_path, answer, (number,), 1) for number in range(4)),
    ]
    values = done(jobs, 7)
    assert values["once.wav"] == ("alive", None)
    assert all(values[f"good {number}"][0][0] == number for number in range(4))
    value, error = values["always.wav"]
    assert value is None
    assert str(error).startswith("always.wav: ")
    assert "SIGKILL" in str(error)
    assert error.code == values["leaves.wav"][1].code == "job_failed"
    assert "exit code 7" in str(values["leaves.wav"][1])
    assert (tmp_path / "always").read_text() == "xx"
    assert [record.name for record in caplog.records].count("dawp.parallel.scheduler") == 3  # one for each retried job


def test_bad_input_does_not_stop_other_jobs_but_other_exceptions_do(tmp_path, caplog):
    jobs = [Job("bad", tmp_path, refuse, (), 2), Job("good", tmp_path, answer, (1,), 1)]
    for workers in (1, 2):
        values = done(jobs, 3, workers=workers)
        assert isinstance(values["bad"][1], BadInput)
        assert (str(values["bad"][1]), values["bad"][1].code) == ("no good", "unusable_recording")
        assert values["good"][0][0] == 1
    jobs = [Job("slow", tmp_path, sleep, (600,), 1), Job("wrong", tmp_path, fail, (), 1)]
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        done(jobs)
    assert time.monotonic() - began < 100
    assert "in fail" in caplog.text  # the traceback of the worker


def test_a_failed_job_ends_after_its_last_running_part(tmp_path):
    job = Job("bad", tmp_path, refuse_first, (), 3)
    config = Config.of("denoise", **{**TINY, "workers": 2})
    with ProgressBars(3, config.fit.epochs, None) as bars, closing(run([job], config, 3, bars)) as over:
        ended = [(error, sorted(path.name for path in tmp_path.iterdir())) for _, _, error in over]
    ((error, files),) = ended
    assert str(error) == "no good"
    assert files == ["part 1"]  # part 2 was not started


def test_threads_depend_on_the_number_of_fits_and_not_of_workers(monkeypatch):
    monkeypatch.setattr(allocation, "cores", lambda: 6)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)

    def of(fits, **settings):
        return allocation.allocate_workers(Config.of("denoise", **settings).work, torch.device("cpu"), fits)

    assert of(1) == (1, 6)
    assert of(4) == (4, 1)
    assert of(40) == (6, 1)
    assert of(40, workers=2) == (2, 1)
    assert of(40, workers=1) == (1, 1)
    assert of(40, workers=50) == (40, 1)
    assert of(40, threads=3) == (2, 3)
    assert of(1, threads=2, workers="auto") == (1, 2)
    assert of(40, threads=9) == (1, 9)


@pytest.mark.parametrize("title", ["all", None])
def test_the_bar_counts_each_epoch_once(title, tmp_path, capsys):
    job, parts = Job("a", tmp_path, sleep, (0,), 1), Job("b", tmp_path, sleep, (0,), 2)
    with ProgressBars(5, 10, title, forecast=True) as bars:
        bars.skip_fits(1)
        bars.start(WorkItem(job, None))
        bars.update(WorkItem(job, None), 4, {})
        bars.end(WorkItem(job, None), discard=True)
        bars.start(WorkItem(job, None, failed_attempts=1))
        bars.update(WorkItem(job, None, failed_attempts=1), 10, {})
        bars.end(WorkItem(job, None, failed_attempts=1))
        for part in (0, 1, None):
            bars.start(WorkItem(parts, part))
            bars.update(WorkItem(parts, part), 10, {})
            bars.end(WorkItem(parts, part))
        bars.skip_fits(1)
        assert bars._total_bar.n == (50 if title else 0)  # a hidden bar does not count
    assert ("50/50" in capsys.readouterr().err) == (title is not None)


@pytest.mark.parametrize(("method", "total"), [("janssen", 6), ("deep_prior", 42)])
def test_progress_counts_blocks_for_a_method_without_a_fit(method, total):
    config = Config.of("inpaint", "restore", source=SAMPLES, restore=True, method=method, epochs=7)
    with progress_bars(6, config, "all") as bars:
        bars.skip_fits(6)
        assert bars._total_bar.n == bars._total_bar.total == total
        assert bars._total_bar.unit == ("block" if method == "janssen" else "epoch")


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.2, "1 s"), (59.6, "60 s"), (89, "89 s"), (100, "2 min"), (3600, "1 h 00 min")]
)
def test_format_duration(seconds, expected):
    assert format_duration(seconds) == expected


def test_the_package_imports_no_higher_layer_and_has_no_import_cycle():
    imported = {
        f"dawp.parallel.{path.stem}": {
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dawp.")
        }
        for path in (ROOT / "dawp/parallel").glob("*.py")
    }
    layers = {module.split(".")[1] for modules in imported.values() for module in modules}
    assert layers == {"devices", "errors", "io", "openmp", "parallel", "settings"}
    TopologicalSorter(imported).prepare()  # raises CycleError


# Command line

FITS = [
    "--depth",
    "1",
    "--channels",
    "4",
    "--lstm_layers",
    "0",
    "--no_resample",
    "--device",
    "cpu",
    "--clip_length",
    "1",
]
LONG = [
    *FITS,
    "--epochs",
    "700",
    "--pesq_every",
    "350",
    "--no_report",
    "--no_pictures",
    "--stop",
    "holdout",
    "--checkpoint_every",
    "0.02",
]


def command(task, *flags):
    return [sys.executable, str(ROOT / f"{task}.py"), *map(str, flags)]


@pytest.mark.slow
def test_the_numbers_do_not_depend_on_the_number_of_workers(run_task, tmp_path):
    flags = [
        *FITS,
        "--epochs",
        "20",
        "--pesq_every",
        "10",
        "--fits",
        "2",
        "--experiment_repetition",
        "2",
        "--lr",
        "0.01",
        "--no_report",
        "--no_pictures",
    ]
    runs = []
    for workers in ("1", "2"):
        result = run_task("denoise", *flags, "--workers", workers, "--name", f"with-{workers}", tiny=False)
        assert result.returncode == 0, result.stderr
        runs.append(numbers(tmp_path / "evals" / "denoise" / f"with-{workers}"))
    assert len(runs[0]) == 2
    assert runs[0] == runs[1]


@pytest.mark.slow
def test_restored_files_do_not_depend_on_the_number_of_workers(run_task, tmp_path):
    for name in ("a", "b"):
        write_sound(tmp_path / "in" / f"{name}.wav", torch.randn(40000, 2) * 0.1)
    flags = [*FITS[:-2], "--epochs", "20", "--restore", "--source", "in", "--block", "1", "--fits", "2"]
    flags += ["--estimate", "output"]
    for workers in (1, 2):
        result = run_task("denoise", *flags, "--workers", workers, "-o", f"out{workers}", tiny=False)
        assert result.returncode == 0, result.stderr
    for name in ("a.wav", "b.wav"):
        assert (tmp_path / "out1" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "out2").iterdir()) == ["a.wav", "a.wav.json", "b.wav", "b.wav.json"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return the numbers of a run of two repetitions with the flags ``LONG``."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    flags = ["--source", str(SAMPLES), "--experiment_repetition", "2", *LONG, "--workers", "1", "--name", "whole"]
    done = call_main("denoise", flags, folder)
    assert done.returncode == 0, done.stderr
    return numbers(folder / "evals/denoise/whole")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_command_killed_at_any_time_resumes_with_the_same_results(workers, uninterrupted, tmp_path):
    flags = ["--source", SAMPLES, "--experiment_repetition", "2", *LONG, "--workers", workers]
    run = tmp_path / "evals/denoise/killed"
    kills, rng = 0, random.Random(workers)
    for _ in range(3 - workers):
        process = subprocess.Popen(
            command("denoise", *flags, "--name", "killed"),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        # Kill it at any time after the start: during a fit, a checkpoint, or writing the results.
        before = {path: path.stat().st_mtime_ns for path in run.glob("*/fit_*.checkpoint")}
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            now = {path: path.stat().st_mtime_ns for path in run.glob("*/fit_*.checkpoint") if path.exists()}
            if any(before.get(path) != stamp for path, stamp in now.items()):
                break
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.8))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills
    last = subprocess.run(
        command("denoise", *flags, "--name", "killed"), cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert last.returncode == 0, last.stderr
    assert numbers(run) == uninterrupted
    assert not list(run.glob("*/fit_*.checkpoint"))
    assert not list(run.rglob(".*"))


@CPU
@pytest.mark.slow
def test_a_killed_worker_loses_no_results(uninterrupted, tmp_path):
    flags = ["--source", SAMPLES, "--experiment_repetition", "2", *LONG, "--workers", "2"]
    process = subprocess.Popen(
        command("denoise", *flags, "--name", "hit"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / "evals/denoise/hit"
    deadline = time.monotonic() + 120
    while not list(run.glob("*/fit_*.checkpoint")) and time.monotonic() < deadline:
        time.sleep(0.01)
    victim = children(process.pid)[0]
    os.kill(victim, signal.SIGKILL)
    errors = process.communicate(timeout=200)[1]
    assert process.returncode == 0, errors
    assert errors.count("SIGKILL") == 1
    assert numbers(run) == uninterrupted


def test_workers_start_with_sigint_blocked(tmp_path):
    script = tmp_path / "begin.py"
    script.write_text(
        "import multiprocessing, signal\n"
        "from dawp.parallel.processes import _sigint_blocked\n"
        "def send(pipe):\n"
        "    pipe.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
        "if __name__ == '__main__':\n"
        "    for _ in range(2):\n"
        "        ours, theirs = multiprocessing.Pipe()\n"
        "        process = multiprocessing.get_context('spawn').Process(target=send, args=(theirs,))\n"
        "        with _sigint_blocked():\n"
        "            process.start()\n"
        "        print(ours.recv(), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
    )
    result = subprocess.run(
        [sys.executable, script], env={**environment(), "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert result.stdout.decode().splitlines() == ["True False"] * 2, result.stderr.decode()


@CPU
def test_ctrl_c_while_workers_start_is_one_line(tmp_path):
    process = subprocess.Popen(
        command("denoise", "--source", SAMPLES, *FITS, "--workers", "2"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not children(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert errors.count("interrupted") == 1


@CPU
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_command(how, tmp_path):
    flags = ["--source", SAMPLES, *FITS, "--epochs", "1000000", "--workers", "2", "--checkpoint_every", "0.05"]
    process = subprocess.Popen(
        command("denoise", *flags, "--name", "ended"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / "evals/denoise/ended"
    deadline = time.monotonic() + 120
    while len(list(run.glob("*/fit_*.checkpoint"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.send_signal(how)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert "Traceback" not in errors
    deadline = time.monotonic() + 20
    while any(running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(running(pid) for pid in workers)
    assert len(list(run.glob("*/fit_*.checkpoint"))) == 2  # the computed epochs are kept


def test_an_interrupted_run_keeps_only_folders_with_checkpoints(tmp_path, monkeypatch):
    from dawp.io.sources import find_recordings
    from dawp.runs import experiment

    settings = {**TINY, "output_dir": tmp_path, "name": "run", "show_every": 1, "epochs": 5}
    config = Config.of("denoise", **settings)

    def interrupt(folder, facts):
        raise KeyboardInterrupt

    for keeps in (False, True):
        if keeps:
            monkeypatch.setattr("dawp.methods.deep_prior.checkpoints.Checkpoint.is_due", True)

            def interrupt(folder, facts):
                if len((folder / "metrics.csv").read_text().splitlines()) > 3:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            experiment.run(config, find_recordings(None), interrupt)
        assert len(repetitions_of(tmp_path / "denoise" / "run")) == keeps
    outcome = experiment.run(config, find_recordings(None), lambda *_: None)
    assert outcome.done == 3
    assert not list(tmp_path.rglob("*.checkpoint"))


def test_outputs_saved_before_an_interruption_are_kept(tmp_path, monkeypatch):
    from dawp.io.sources import find_recordings
    from dawp.runs import experiment

    saving = {"save_outputs": True, "show_every": 2, "epochs": 6, "experiment_repetition": 1}
    config = Config.of("denoise", **{**TINY, **saving, "output_dir": tmp_path, "name": "run"})
    monkeypatch.setattr("dawp.methods.deep_prior.checkpoints.Checkpoint.is_due", True)

    def interrupt(folder, facts):
        if (folder / "outputs/epoch_00004.wav").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.run(config, find_recordings(None), interrupt)
    experiment.run(config, find_recordings(None), lambda *_: None)
    (repetition_dir,) = repetitions_of(tmp_path / "denoise" / "run")
    assert sorted(path.name for path in (repetition_dir / "outputs").iterdir()) == [
        "epoch_00002.wav",
        "epoch_00004.wav",
        "epoch_00006.wav",
    ]


def repetitions_of(run):
    return [path for path in run.glob("*/") if path.is_dir()]


def children(pid):
    """Return the process ids of the spawned children of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            line = (stat.parent / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if parent == pid and b"spawn_main" in line:
            found.append(int(stat.parent.name))
    return found
