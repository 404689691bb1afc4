"""Time epochs of the paper's public code from a local copy, in a process that does not import dawp.

``epoch_cost.py --against`` runs this script. The first line on standard input is a JSON object with ``path`` of the
copy, ``device``, ``lr``, ``epochs``, ``rate``, ``network`` (its settings) and ``clips`` (the file of both clips). For
each further line, ``network`` or ``epoch``, the script prints the mean seconds of an epoch without or with metrics.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time

import torch
from torch.nn import functional as F


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # send other output to standard error
    request = json.loads(sys.stdin.readline())
    sys.path.insert(0, request["path"])
    module = importlib.import_module("model.demucsv2.model")
    tracker = importlib.import_module("utils.metrics").MetricsTracker
    device = torch.device(request["device"])
    net = module.Demucs(sources=1, audio_channels=1, samplerate=request["rate"], **request["network"]).to(device)
    clean, noisy = (wave.to(device) for wave in torch.load(request["clips"], weights_only=True))  # (1, 1, T)
    z = (torch.rand(size=clean.size(), device=device) - 0.5) * 2
    with torch.no_grad():
        out = net(z).squeeze(0)
        clean, noisy = module.center_trim(clean, out), module.center_trim(noisy, out)
    optimizer = torch.optim.Adam(net.parameters(), lr=request["lr"])
    for line in sys.stdin:
        metrics = tracker(clean, noisy) if line.strip() == "epoch" else ()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        for _ in range(request["epochs"]):
            optimizer.zero_grad()
            out = net(z).squeeze(0)
            loss = F.l1_loss(out.squeeze(), noisy.squeeze())
            loss.backward()
            loss.item()
            optimizer.step()
            for metric in metrics:
                metric.clean(out)
                metric.noisy(out)
        print((time.perf_counter() - began) / request["epochs"], file=answers)


if __name__ == "__main__":
    main()
