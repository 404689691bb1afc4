import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, running

import dawp
from dawp.metrics import pesq_pool
from dawp.metrics.base import METRICS
from dawp.metrics.functions import pesq
from dawp.metrics.pesq_pool import compute_later, resolve

PESQ = METRICS["pesq"]
SETUP = """import torch
from dawp.metrics.base import METRICS
from dawp.metrics.pesq_pool import _workers, compute_later, resolve

def pesq_later(x):
    return compute_later(METRICS["pesq"], x, x, 16000)
"""


def estimates(speech, count=6):
    return [speech + 0.02 * (number + 1) * torch.randn(len(speech)) for number in range(count)]


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_pesq_values_agree_with_the_metric_in_order(speech, rate):
    waiting = [compute_later(PESQ, estimate, speech, rate) for estimate in estimates(speech)]
    torch.manual_seed(0)
    assert [resolve(value).item() for value in waiting] == [
        pesq(estimate, speech, rate).item() for estimate in estimates(speech)
    ]


def test_pesq_that_cannot_be_computed_is_nan(speech):
    for estimate in (torch.zeros_like(speech), torch.full_like(speech, torch.nan)):
        assert resolve(compute_later(PESQ, estimate, speech, 16000)).isnan()
    long = torch.randn(20 * 16000)
    assert resolve(compute_later(PESQ, long, long, 16000)).isnan()
    too_short = speech[:1000]  # for an utterance
    assert resolve(compute_later(PESQ, 1e-3 * too_short, too_short, 16000)).isnan()
    with pytest.raises(ValueError, match="one shape"):
        compute_later(PESQ, speech[1:], speech, 16000)


def test_a_process_that_dies_loses_one_value_and_is_replaced(speech, caplog):
    assert resolve(compute_later(PESQ, speech, speech, 16000)) > 4
    with caplog.at_level(logging.WARNING):
        processes = list(pesq_pool._workers().processes)
        for process in processes:
            process.kill()
            process.wait()
        values = [resolve(value).item() for value in [compute_later(PESQ, speech, speech, 16000) for _ in range(8)]]
    assert 1 <= sum(value != value for value in values) <= len(processes)
    assert resolve(compute_later(PESQ, speech, speech, 16000)) > 4
    assert "PESQ is NaN for an estimate: its process" in caplog.text
    assert not set(processes) & set(pesq_pool._workers().processes)


def test_every_epoch_has_its_pesq_and_the_best_is_found(speech):
    noisy = speech + 0.05 * torch.randn(len(speech))
    outputs = []
    result = dawp.denoise(
        speech,
        corrupted=noisy,
        **{**TINY, "epochs": 30, "lr": 0.01, "pesq_every": 2},
        on_epoch=lambda step, history: outputs.append(step.output.clone()),
    )
    column = result.history.column("pesq")
    assert all((value != value) == bool(epoch % 2) for epoch, value in enumerate(column, start=1))
    expected = {epoch: pesq(outputs[epoch - 1], speech, 16000).item() for epoch in (2, 16, 30)}
    assert {epoch: column[epoch - 1] for epoch in expected} == pytest.approx(expected)
    best = result.best["pesq"]
    assert best.value == max(value for value in column if value == value) == column[best.epoch - 1]
    assert torch.equal(best.waveform, outputs[best.epoch - 1])


def test_pending_values_do_not_delay_the_end_of_a_command():
    code = (
        f"{SETUP}x = torch.randn(18 * 16000)\n"
        "waiting = [pesq_later(x) for _ in range(60)]; resolve(waiting[0])\n"
        "print('started', flush=True); raise KeyboardInterrupt"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "started\n"
    began = time.monotonic()
    errors = process.communicate()[1]
    assert time.monotonic() - began < 15  # 60 values take half a minute or more
    assert "PESQ" not in errors
    assert "terminate called" not in errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_starts_its_own_pool(speech):
    code = (
        f"{SETUP}import multiprocessing; x = torch.randn(16000)\n"
        "def listen(queue):\n    queue.put(resolve(pesq_later(x)).item())\n"
        "resolve(pesq_later(x)); context = multiprocessing.get_context('fork')\n"
        "queue = context.Queue(); child = context.Process(target=listen, args=(queue,)); child.start()\n"
        "print(queue.get(timeout=30)); child.join()\n"
        "print(resolve(pesq_later(x)).item())"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert all(float(line) > 4 for line in result.stdout.splitlines())
    assert "PESQ counts" not in result.stderr


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look for processes in")
def test_the_processes_end_with_their_parent(speech):
    code = (
        f"{SETUP}"
        "x = torch.randn(16000); print(resolve(pesq_later(x)).item()); "
        "print(*[process.pid for process in _workers().processes], flush=True); input()"
    )
    for end in ("return", "kill"):
        command = [sys.executable, "-c", code]
        asking = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert float(asking.stdout.readline()) > 4
        pids = [int(pid) for pid in asking.stdout.readline().split()]
        assert pids
        if end == "kill":
            asking.send_signal(signal.SIGKILL)
        asking.communicate("\n" if end == "return" else None)
        deadline = time.monotonic() + 10
        while any(running(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(running(pid) for pid in pids)
