"""Common functions of the benchmarks: description of the machine, a table on standard output, results as JSON."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dawp.metrics.pesq_pool import cores


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the flags common to all benchmarks."""
    flags = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    flags.add_argument("--json", type=Path, help="file for the results (default: evals/benchmarks/NAME.json)")
    return flags


def machine(device: str = "cpu") -> dict[str, Any]:
    """Describe the machine."""
    about = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "processor": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.startswith("cuda"):
        about["gpu"] = torch.cuda.get_device_name(device)
    return about


def report(name: str, about: dict[str, Any], rows: Sequence[dict[str, Any]], path: Path | None, **more: Any) -> None:
    """Print the machine and the rows as a Markdown table, and write them as JSON."""
    print(f"\n{name}: " + ", ".join(f"{key} {value}" for key, value in {**about, **more}.items()) + "\n")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([_format(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for number, line in enumerate(cells):
        first, *others = (
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        print("| " + " | ".join([first, *others]) + " |")
        if number == 0:
            print(
                "| "
                + " | ".join("-" * width if not i else "-" * (width - 1) + ":" for i, width in enumerate(widths))
                + " |"
            )
    path = path or Path("evals") / "benchmarks" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": about, **more, "rows": list(rows)}, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {path}")


def _format(value: Any) -> str:
    if value is None:
        return ""
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
