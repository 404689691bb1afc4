"""The values that a fit measures at each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

import torch
from torch import Tensor

from dawp.io.files import write_csv
from dawp.methods.deep_prior.watcher import State
from dawp.metrics.pesq_pool import Measured


class History:
    """The values of each epoch: one row per epoch, one column per quantity, fetched from the device in batches."""

    def __init__(self, fetch_every: int = 1) -> None:
        self.fetch_every = fetch_every
        self._waiting: list[dict[str, Measured]] = []
        self._rows: list[dict[str, float]] = []
        self._to_come: list[tuple[int, str, Future[Tensor]]] = []  # row and name

    def append(self, values: Mapping[str, Measured]) -> None:
        self._waiting.append(dict(values))
        if len(self._waiting) >= self.fetch_every:
            self.fetch()

    @property
    def rows(self) -> list[dict[str, float]]:
        """Return all rows so far, without the quantities an epoch did not measure. Waits for pending values."""
        self.fetch()
        for row, name, value in self._to_come:
            self._rows[row][name] = value.result().item()
        self._to_come.clear()
        return self._rows

    @property
    def latest(self) -> dict[str, float]:
        """Return the newest row on the host; pending values are NaN."""
        return self._rows[-1] if self._rows else {}

    def column(self, name: str) -> list[float]:
        """Return a quantity over all epochs, NaN where it was not measured."""
        return [row.get(name, float("nan")) for row in self.rows]

    def write(self, path: Path) -> None:
        """Write as CSV with the first column ``epoch``; quantities an epoch did not measure are empty."""
        rows = self.rows
        names = list(dict.fromkeys(name for row in rows for name in row))
        write_csv(
            path,
            ["epoch", *names],
            (
                [epoch, *(format(row[name], ".7g") if name in row else "" for name in names)]
                for epoch, row in enumerate(rows, start=1)
            ),
        )

    def state(self) -> State:
        return {"rows": self.rows}

    def resume(self, state: State) -> None:
        self._rows = state["rows"]

    def fetch(self) -> None:
        """Copy the values that are still on the device to the host."""
        rows: list[dict[str, float]] = [dict.fromkeys(values, math.nan) for values in self._waiting]
        entries = []
        for number, (row, values) in enumerate(zip(rows, self._waiting, strict=True), start=len(self._rows)):
            for name, value in values.items():
                if isinstance(value, Future):
                    self._to_come.append((number, name, value))
                else:
                    entries.append((row, name, value))
        for device in {value.device for _, _, value in entries}:
            on_device = [entry for entry in entries if entry[2].device == device]
            # One transfer for all the values of a device.
            numbers = torch.stack([value for _, _, value in on_device]).tolist()
            for (row, name, _), number in zip(on_device, numbers, strict=True):
                row[name] = number
        self._rows += rows
        self._waiting.clear()
