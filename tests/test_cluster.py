import importlib.util
import subprocess
import sys
import time

import pytest
from conftest import ROOT, SAMPLES, call_main, environment, numbers

from dawp.errors import BadInput
from dawp.parallel import ray_cluster as cluster

if importlib.util.find_spec("ray") is None:
    pytest.skip("ray is not installed", allow_module_level=True)

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


@pytest.fixture
def nodes(monkeypatch):
    """Start a cluster of two nodes with one processor each; the second can be removed."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # other tests run in parallel
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    both = Cluster(initialize_head=True, head_node_args=small)
    both.second = both.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    yield both
    both.shutdown()


def denoise(tmp_path, *flags):
    command = [sys.executable, str(ROOT / "denoise.py"), *map(str, flags)]
    return subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_losing_a_node_does_not_change_the_results(nodes, tmp_path):
    flags = [*FITS, "--source", SAMPLES, "--experiment_repetition", "3", "--epochs", "1000", "--pesq_every", "500"]
    flags += ["--checkpoint_every", "0.2", "--stop", "holdout", "--no_report", "--no_pictures"]
    process = denoise(tmp_path, *flags, "--name", "far", "--executor", "ray", "--ray_address", nodes.address)
    run = tmp_path / "evals/denoise/far"
    deadline = time.monotonic() + 200
    while len(list(run.glob("*/fit_*.checkpoint"))) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    assert (
        len(list(run.glob("*/fit_*.checkpoint"))) == 2
    )  # both nodes are running, and their checkpoints are on the driver
    nodes.remove_node(nodes.second, allow_graceful=False)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors
    assert "nodes: 2, parallel fits: 2" in errors
    assert "retrying once" in errors
    here = call_main("denoise", [*map(str, flags), "--name", "near", "--workers", "1"], tmp_path)
    assert here.returncode == 0, here.stderr
    assert numbers(run) == numbers(tmp_path / "evals/denoise/near")
    assert sorted(p.relative_to(run) for p in run.rglob("*")) == sorted(
        p.relative_to(tmp_path / "evals/denoise/near") for p in (tmp_path / "evals/denoise/near").rglob("*")
    )


@pytest.mark.slow
def test_fits_of_one_clip_and_blocks_of_a_recording_on_a_cluster(nodes, tmp_path):
    flags = [*FITS[:-2], "--epochs", "20", "--fits", "2"]
    far = ["--executor", "ray", "--ray_address", nodes.address]
    experiment = [*flags, "--experiment_repetition", "1", "--no_report", "--no_pictures", "--name"]
    restoration = [*flags, "--restore", "--source", str(SAMPLES / "speech.wav"), "--block", "2", "-o"]
    for command in (experiment, restoration):
        process = denoise(tmp_path, *command, "far", *far)
        assert "Traceback" not in process.communicate(timeout=200)[1]
        assert process.returncode == 0
        here = call_main("denoise", [*command, "near", "--workers", "1"], tmp_path)
        assert here.returncode == 0, here.stderr
    assert numbers(tmp_path / "evals/denoise/far") == numbers(tmp_path / "evals/denoise/near")
    assert (tmp_path / "far/speech.wav").read_bytes() == (tmp_path / "near/speech.wav").read_bytes()
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["speech.wav", "speech.wav.json"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            "--ray_address no.such.host.invalid:6379",
            "ray_address must be the address of a Ray cluster, got no.such.host",
        ),
        ("--ray_address auto:0", "ray_address must be the address of a Ray cluster, got auto:0"),
        ("--ray_address 127.0.0.1:1", "ray_address must be the address of a Ray cluster, got 127.0.0.1:1"),
        ("--device cuda:1", "device must be auto, cpu or cuda on a Ray cluster, got cuda:1"),
    ],
)
def test_an_unavailable_cluster_is_reported_in_one_line(flags, words, run_task, tmp_path):
    result = run_task("denoise", "--executor", "ray", *flags.split(), tiny=False)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr.splitlines()[-1]
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert not (tmp_path / "evals").exists()


def test_a_job_cannot_write_outside_its_folder(tmp_path):
    (tmp_path / "job").mkdir()
    for name in ("../outside", "/tmp/outside", "a/../../outside"):
        with pytest.raises(BadInput, match="outside its folder"):
            cluster._write_files(tmp_path / "job", {name: b"content"})
    assert [path.name for path in tmp_path.iterdir()] == ["job"]
    cluster._write_files(tmp_path / "job", {"a/b.txt": b"content"})
    assert (tmp_path / "job/a/b.txt").read_bytes() == b"content"
