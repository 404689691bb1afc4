"""Reference values of short seeded runs, and the names of everything that a run writes.

The tests use the command line, the functions of ``import dawp`` and the files of runs, and nothing else. Fits are
short: rounding, which depends on the processor, grows with the epochs. Update the files in ``tests/golden`` after an
intended change, and review the difference:

    DAWP_UPDATE_GOLDEN=1 python -m pytest -n 0 tests/test_golden.py
"""

import argparse
import csv
import dataclasses
import inspect
import json
import logging
import math
import os
import re
import runpy
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, call_main

import dawp

GOLDEN = Path(__file__).parent / "golden"
NUMBERS, INTERFACE = GOLDEN / "numbers.json", GOLDEN / "run_folder.json"
UPDATE = os.environ.get("DAWP_UPDATE_GOLDEN") == "1"
TASKS = ("denoise", "dereverb", "inpaint")

ALONE = "--device cpu --workers 1 --threads 1 --quiet".split()
FIT = "--epochs 16 --lr 3e-3 --no_report --no_pictures"
SHORT = f"{FIT} --source short.wav --clip_length 0 --pesq_every 16"
LONGER = f"{FIT} --source notes.wav --clip_length 0 --pesq_every 16"
RESTORE = "--restore -o restored.wav --block 0.3 --overlap 0.1 --epochs 16 --lr 1e-2"
NETWORK = "--depth 1 --channels 12 --lstm_layers 0 --no_resample"
WAVEUNET = "--generator waveunet --waveunet_levels 3 --waveunet_filters 6"

CASES = {
    # Experiments
    "convolutions": f"denoise {LONGER} {NETWORK} --depth 2 --crit L2 --stop holdout --estimate output --baselines",
    "resampled": f"denoise {SHORT} {NETWORK} --resample --crit L1 --stop holdout --noise_class UNIFORM",
    "lstm": f"denoise {SHORT} {NETWORK} --channels 8 --lstm_layers 1 --crit L2 --stop holdout --estimate mean --fits 2",
    "attention": f"denoise {SHORT} {NETWORK} --attention_layers 1 --epochs 8 --stop epochs --estimate mask",
    "glu": f"denoise {SHORT} {NETWORK} --glu --skip --crit L2 --lr 1e-2 --epochs 40 --stop holdout --patience 10",
    "no scaling": f"denoise {SHORT} {NETWORK} --no_normalize --input_noise gaussian --stop holdout --holdout 0.1",
    "skip": f"denoise {SHORT} {NETWORK} --depth 2 --skip --crit L2 --ema 0 --estimate output --highpass 100 --fits 2",
    "input noise redrawn": f"denoise {SHORT} {NETWORK} --resample_input --crit L2",
    "moving variance": f"denoise {SHORT} {NETWORK} --crit L2 --lr 3e-2 --epochs 70 --stop wmv",
    "waveunet": f"denoise {SHORT} {WAVEUNET} --snr none --noise_std 0.05 --level_dbfs -20 --stop epochs "
    "--estimate mask",
    "real noise": f"denoise {SHORT} {NETWORK} --noise_source hiss.wav --snr 0 --show_estimates_vs_noise --zero_mean",
    "pairs": f"denoise {SHORT} --source pairs.txt --align {NETWORK} --data_range none --stop epochs --mask_floor -20",
    "room": f"dereverb {LONGER} {NETWORK} --depth 2 --crit L2 --stop holdout --estimate mean --baselines",
    "given room": f"dereverb {SHORT} {WAVEUNET} --room_dim 5,4,2.5 --source_pos 1,1,1 --mic_pos 3,2,1 --reference dry",
    "measured room": f"dereverb {SHORT} {NETWORK} --lstm_layers 1 --channels 8 --rir_source hall.wav --stop epochs",
    "gaps": f"inpaint {LONGER} {NETWORK} --depth 2 --crit L2 --gap_ms 5 --n_gaps 3 --lr 6e-3 --pesq_every 8 "
    "--stop holdout --baselines",
    "given gaps": f"inpaint {SHORT} {WAVEUNET} --gaps 0.05:0.004,0.09:0.002 --raw_output --estimate output --fits 2",
    "several clips": f"denoise {NETWORK} {FIT} --clip_length 0.3 --pesq_every 16 --experiment_repetition 4 --seed 5",
    # Presets
    "preset fast": f"denoise {SHORT} --preset fast --epochs 8",
    "preset fast for rooms": f"dereverb {SHORT} --preset fast --epochs 6",
    "preset fast for gaps": f"inpaint {SHORT} --preset fast --epochs 8",
    # Restorations
    "restore noise": f"denoise --source tape.wav {RESTORE}",
    "restore noise by profile": f"denoise --source tape.wav {RESTORE} {NETWORK} --lr 3e-2 --stop epochs "
    "--noise_profile 0.1:0.2 --samplerate 12000 --strength 0.8 --save_removed removed.wav",
    "restore noise by mean": f"denoise --source tape.wav {RESTORE} {WAVEUNET} --estimate mean --stop wmv",
    "restore reverberation": f"dereverb --source hall_notes.wav {RESTORE} --method deep_prior {NETWORK} --depth 2 "
    "--fits 2",
    "restore missing samples": f"inpaint --source missing.wav {RESTORE} --method deep_prior --channels 12",
    "restore drop-outs": f"inpaint --source dropouts.wav {RESTORE} --method deep_prior {NETWORK} --stop holdout",
}
"""By name, the task and its flags."""


# Sounds


def notes(seconds: float) -> np.ndarray:
    """Decaying harmonic notes, one every 60 ms, ``[T]``.

    A short fit learns the constant offset first, so that its output is far from silence, beside which rounding counts.
    """
    time = np.arange(round(seconds * RATE)) / RATE
    sound = np.zeros_like(time)
    for number, pitch in enumerate(np.resize([220.0, 330.0, 275.0, 440.0, 247.5], math.ceil(seconds / 0.06))):
        after = time - 0.06 * number
        tone = sum(np.sin(2 * np.pi * pitch * harmonic * after) / harmonic for harmonic in (1, 2, 3))
        sound += np.where(after >= 0, np.exp(-8 * np.abs(after)) * tone, 0)
    return 0.03 + 0.1 * sound


def noise(seed: int, *shape: int) -> np.ndarray:
    """White noise of unit variance: the legacy generator of numpy, whose numbers do not change with its versions."""
    return np.random.RandomState(seed).standard_normal(shape)


@pytest.fixture
def folder(tmp_path):
    """A folder with all recordings of the cases."""

    def write(name, samples, subtype="FLOAT"):
        soundfile.write(tmp_path / name, samples.T, RATE, subtype=subtype)

    short, long = notes(0.125), notes(0.5)
    hall = np.exp(-np.arange(2400) / 400) * noise(1, 2400)
    hall[:40] *= np.arange(40) == 30
    write("notes.wav", notes(0.25))
    write("short.wav", short)
    write("hiss.wav", 0.05 * noise(2, RATE // 8).cumsum() / 8)
    write("hall.wav", hall / np.abs(hall).max())
    write("noisy.wav", np.pad(short, (37, 0))[: len(short)] + 0.03 * noise(3, len(short)))
    (tmp_path / "pairs.txt").write_text("short.wav,noisy.wav\n")
    write("tape.wav", np.stack([long, 0.5 * long]) + 0.03 * noise(4, 2, len(long)))
    write("hall_notes.wav", 0.2 * np.convolve(long, hall)[: len(long)], "PCM_16")
    missing = long.copy()
    missing[2000:2060] = missing[4300:4460] = np.nan
    write("missing.wav", missing)
    dropouts = np.stack([long, long + 0.01 * noise(5, len(long))])
    dropouts[0, 2000:2080] = dropouts[:, 4500:4600] = 0
    write("dropouts.wav", dropouts, "PCM_24")
    return tmp_path


# Measurements


def measured(case: str, folder: Path, *changes: str) -> dict[str, object]:
    """The numbers of a case, with flags added."""
    task, *flags = CASES[case].split()
    result = call_main(task, [*flags, *ALONE, "--output_dir", "out", *changes], folder)
    assert result.returncode == 0, result.stderr
    if "--restore" in flags:
        return of_restored(folder, folder / flags[flags.index("--source") + 1])
    (run,) = folder.glob("out/*/*")
    repetitions = sorted(path.parent for path in run.glob("*/result.json"))
    if len(repetitions) == 1:
        return of_repetition(repetitions[0])
    return {
        "summary": json.loads((run / "summary.json").read_text()),
        **{
            repetition_dir.name: {
                "input": of_repetition(repetition_dir)["input"],
                **of_sound(repetition_dir / "restored.wav"),
            }
            for repetition_dir in repetitions
        },
    }


def of_repetition(repetition_dir: Path) -> dict[str, object]:
    """Everything a repetition's files hold, but names of files and the time it took."""
    facts = json.loads((repetition_dir / "result.json").read_text())
    history = list(csv.DictReader((repetition_dir / "metrics.csv").open(newline="")))
    for name in ("recording", "pair", "seconds", "threads", "device"):
        del facts[name]
    rows = {f"epoch {row['epoch']}": row for row in history if int(row["epoch"]) in (1, 4, 8, 16, 50, 70)}
    for row in rows.values():
        for name, text in row.items():
            row[name] = int(text) if name == "epoch" else float(text) if text else None
    weights = torch.load(repetition_dir / "generator.pt", weights_only=True)
    return {
        **rows,
        **{name: value for name, value in facts.items() if isinstance(value, dict)},
        "facts": {name: value for name, value in facts.items() if not isinstance(value, dict)},
        "weights": {"z": rms(weights["z"]), **of_weights(weights["state_dict"].values())},
        **{sound.name: of_sound(sound) for sound in sorted(repetition_dir.glob("*.wav"))},
    }


def of_restored(folder: Path, recording: Path) -> dict[str, object]:
    """What a restored file, its difference from the recording and the record beside it hold."""
    record = json.loads((folder / "restored.wav.json").read_text())
    names = ("sample_rate", "channels", "samples", "format", "subtype", "gain", "unchanged", "removed", "blocks")
    samples, before = (soundfile.read(path, always_2d=True)[0].T for path in (folder / "restored.wav", recording))
    saved = folder / "removed.wav"
    return {
        "record": {name: record[name] for name in names},
        "restored.wav": of_waveform(samples),
        "difference": of_waveform(samples - np.nan_to_num(before)),
        **({saved.name: of_sound(saved)} if saved.exists() else {}),
    }


def of_weights(tensors) -> dict[str, float]:
    values = torch.cat([tensor.flatten().double() for tensor in tensors if tensor.is_floating_point()])
    return {"count": len(values), "norm": values.norm().item()}


def of_sound(path: Path) -> dict[str, object]:
    samples, rate = soundfile.read(path, always_2d=True)
    return {"rate": rate, **of_waveform(samples.T)}


def of_waveform(waveform) -> dict[str, object]:
    """Level of each channel of ``[channels, T]`` or ``[T]`` and its inner products with fixed vectors of unit variance.

    The products are divided by the norm of the channel, which makes each about 1 for any signal.
    """
    channels = np.atleast_2d(np.asarray(waveform, dtype=np.float64))
    projections = vectors(channels.shape[1]) @ channels.T / np.linalg.norm(channels, axis=1).clip(1e-12)
    return {
        "samples": channels.shape[1],
        "level_dbfs": [20 * math.log10(max(rms(channel), 1e-12)) for channel in channels],
        "projections": projections.T.tolist(),
    }


@cache
def vectors(length: int) -> np.ndarray:
    return noise(0, 4, length)


def rms(samples) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(samples, dtype=np.float64)))))


def of_result(result: dawp.Result) -> dict[str, object]:
    """The numbers of a result of the library."""
    rows = {f"epoch {epoch}": result.history.rows[epoch - 1] for epoch in (1, len(result.history.rows))}
    estimates = {"restored": result.restored, **{f"blind {name}": one for name, one in result.blind.items()}}
    estimates |= {f"baseline {name}": one for name, one in result.baselines.items()}
    return {
        **rows,
        "input": result.input,
        "observed": of_waveform(result.problem.observed),
        "weights": {"z": rms(result.generator["z"]), **of_weights(result.generator["state_dict"].values())},
        **{
            f"best {name}": {"value": best.value, "epoch": best.epoch, **of_waveform(best.waveform)}
            for name, best in result.best.items()
            if best.waveform is not None
        },
        **{name: {"epoch": one.epoch, **one.values, **of_waveform(one.waveform)} for name, one in estimates.items()},
    }


def of_library() -> dict[str, dict[str, object]]:
    """Arrays in, results out: each public function once, and the paper's network at its full size."""
    clean = notes(0.25).astype(np.float32)
    noisy = clean + 0.03 * noise(3, len(clean)).astype(np.float32)
    two = np.stack([noisy, noisy[::-1]])
    damaged = clean.copy()
    damaged[1500:1540] = np.nan
    tiny = {"depth": 1, "channels": 8, "lstm_layers": 0, "resample": False, "lr": 3e-3, "pesq_every": 10**6}
    fit = {**tiny, "device": "cpu", "threads": 1}
    blocks = {**fit, "block": 0.15, "overlap": 0.05, "epochs": 16, "fits": 2}
    return {
        "denoise": lambda: of_result(dawp.denoise(clean, RATE, corrupted=noisy, stop="holdout", epochs=16, **fit)),
        "dereverb": lambda: of_result(dawp.dereverb(torch.from_numpy(clean), RATE, rt60=0.3, epochs=16, seed=2, **fit)),
        "inpaint": lambda: of_result(dawp.inpaint(damaged, RATE, gaps="auto", epochs=16, **fit)),
        "restore": lambda: {
            "removed": of_waveform(two - dawp.restore(two, RATE, estimate="mean", **{**blocks, "lr": 1e-2}).numpy())
        },
        "restore gaps": lambda: {
            "filled": of_waveform(dawp.restore(damaged, RATE, "inpaint", method="deep_prior", **blocks)[1500:1540])
        },
        "preset paper": lambda: of_result(
            dawp.denoise(clean, RATE, epochs=5, pesq_every=10**6, device="cpu", threads=1)
        ),
    }


def of_paper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A table of the paper, by ``python -m dawp.paper``."""
    flags = (
        "--clips 1 --clip_length 0.25 --channels 4 --no_resample --epochs 12 --lr 5e-3 --pesq_every 12 --ema 0".split()
    )
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["paper", "table3", *flags, *ALONE, "--no_report", "--no_pictures"])
    with logging_restored(), pytest.raises(SystemExit) as ended:
        runpy.run_module("dawp.paper", run_name="__main__")
    assert ended.value.code == 0
    with (folder / "evals/paper/table3.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {row.pop("cell"): {name: float(text) if text else None for name, text in row.items()} for row in rows}


@contextmanager
def logging_restored():
    logger = logging.getLogger("dawp")
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers[:], logger.level, logger.propagate = before


def of_settings() -> dict[str, object]:
    """The value of each setting in each preset."""
    configs = {
        f"{task} {preset}": dataclasses.asdict(dawp.Config.of(task, preset))
        for task in TASKS
        for preset in ("paper", "fast", "restore")
    }
    return {
        name: {key: value for group in config.values() if isinstance(group, dict) for key, value in group.items()}
        for name, config in configs.items()
    }


# Comparison


def plain(values):
    """Nested values as JSON has them, with eight digits of each number."""
    if isinstance(values, dict):
        return {str(key): plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [plain(value) for value in values]
    if isinstance(values, float):
        return float(f"{values:.8g}") if math.isfinite(values) else None
    return str(values) if isinstance(values, Path) else values


def leaves(values, path: str = "") -> dict[str, object]:
    """The numbers and texts of nested plain values, by path."""
    if not isinstance(values, dict | list):
        return {path: values}
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    return {name: leaf for key, value in pairs for name, leaf in leaves(value, f"{path}/{key}").items()}


WITHOUT_FIT = ("input", "corruption", "observed", "clean.wav", "corrupted.wav", "rir.wav", "baselines")


def tolerance(path: str, value: float) -> float:
    """How far a number may be from its reference: rounding differs between processors.

    Between kernels for SSE4, AVX2 and AVX-512, and one and two threads, the largest difference was 0.3 of this, and a
    learning rate that is 1 % higher or lower changes some number of each case by 1.7 of this or more. Most fits agree
    to 1e-6; where rounding decides whether a unit is active at all, Adam's next step is another one for its weights.
    """
    share = 0.1 if path[1:].startswith(WITHOUT_FIT) else 1  # nothing increases rounding there
    name = path.lower().replace("-", "_")
    if "projections" in name:
        return share * 1e-3  # of vectors of unit variance with a signal of unit norm
    if "si_snr" in name:  # where it is far from 0 dB, a relative error of 1e-5 in the waveform counts for more
        return share * max(0.01, 8.7e-5 * 10 ** (abs(value) / 20))
    if "pesq" in name:
        return share * 0.05
    if any(unit in name for unit in ("snr", "dbfs", "/db")):
        return share * 3e-3
    if "wmv" in name:
        return 0.01 * abs(value)
    return share * 2e-4 * abs(value)


def differences(found: dict[str, object], reference: dict[str, object]) -> list[str]:
    """The numbers of a reference that are missing or too far from it, in words."""
    numbers = leaves(plain(found))
    different = []
    for path, expected in leaves(reference).items():
        value = numbers.get(path, "missing")
        if isinstance(expected, float) and isinstance(value, float):
            is_close = abs(value - expected) <= tolerance(path, expected)
        else:
            is_close = type(value) is type(expected) and value == expected
        if not is_close:
            different.append(f"{path[1:]}: {value}, expected {expected}")
    return different


def references(file: Path) -> dict[str, dict[str, object]]:
    return json.loads(file.read_text()) if file.exists() else {}


def update(file: Path, name: str, found: dict[str, object]) -> None:
    """Replace one reference, and skip the test. Each part of a reference takes a line."""
    assert "PYTEST_XDIST_WORKER" not in os.environ, "processes would overwrite each other's updates: give -n 0"
    known = {key: value for key, value in references(file).items() if key in NAMES[file]} | {name: plain(found)}
    blocks = [
        f"{json.dumps(key)}: {{\n"
        + ",\n".join(f"  {json.dumps(part)}: {json.dumps(values)}" for part, values in known[key].items())
        + "\n}"
        for key in NAMES[file]
        if key in known
    ]
    file.write_text("{\n" + ",\n".join(blocks) + "\n}\n")
    pytest.skip("updated")


# Numbers


def check_numbers(name: str, found: dict[str, object]) -> None:
    if UPDATE:
        update(NUMBERS, name, found)
    different = differences(found, references(NUMBERS)[name])
    assert not different, "\n".join(different)


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_of_a_run(case, folder):
    check_numbers(case, measured(case, folder))


LIBRARY = of_library()


@pytest.mark.parametrize("name", LIBRARY)
def test_the_numbers_of_the_library(name):
    check_numbers(f"library {name}", LIBRARY[name]())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'dawp.paper.__main__' found in sys.modules:RuntimeWarning")
def test_the_numbers_of_a_table_of_the_paper(tmp_path, monkeypatch):
    check_numbers("table 3", of_paper(tmp_path, monkeypatch))


def test_the_value_of_each_setting():
    check_numbers("settings", of_settings())


@pytest.mark.skipif(UPDATE, reason="the references are being updated")
@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("pairs", "--lr 3.03e-3"),
        ("pairs", "--crit L2"),
        ("gaps", "--seed 1"),
        ("glu", "--holdout 0.021"),
        ("restore reverberation", "--lr 1.01e-2"),
        ("restore reverberation", "--crit L1"),
        ("restore drop-outs", "--seed 1"),
        ("restore noise by profile", "--mask_floor -18.1"),
    ],
)
def test_a_small_change_gives_other_numbers(case, change, folder):
    assert differences(measured(case, folder, *change.split()), references(NUMBERS)[case])


# Names


def of_run(task: str, folder: Path) -> dict[str, list[str]]:
    """The names of all that a run writes, with pictures, report and baselines."""
    flags = "--clip_length 0 --epochs 2 --pesq_every 2 --name run --baselines --json"
    outputs = ["--save_outputs", "--show_every", "2"] if task == "denoise" else []
    result = call_main(task, ["--source", "notes.wav", *NETWORK.split(), *flags.split(), *outputs, *ALONE[:-1]], folder)
    assert result.returncode == 0, result.stderr
    output = json.loads(result.stdout)
    output["summary"] = None  # its keys are those of summary.json
    return {**of_files(folder / "evals"), "keys of standard output": keys(output)}


def of_restoration(task: str, folder: Path) -> dict[str, list[str]]:
    """The names of all that a restoration writes."""
    (folder / "in").mkdir()
    recording = (folder / ("missing.wav" if task == "inpaint" else "tape.wav")).rename(folder / "in" / "recording.wav")
    flags = f"--restore --source {recording.parent.name} --save_removed removed --epochs 2 --json".split()
    result = call_main(task, [*flags, "--method", "deep_prior", *NETWORK.split(), *ALONE[:-1]], folder)
    assert result.returncode == 0, result.stderr
    written = {
        f"{name} of {here}": there
        for here in ("restored", "removed")
        for name, there in of_files(folder / here).items()
    }
    return {**written, "keys of standard output": keys(json.loads(result.stdout))}


def of_files(folder: Path) -> dict[str, list[str]]:
    """The paths of files, the columns of tables and the keys of JSON files in a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = {"files": sorted(path.relative_to(folder).as_posix() for path in paths)}
    for path, name in zip(sorted(paths), names["files"], strict=True):
        if path.suffix == ".csv":
            names[f"columns of {name}"] = next(csv.reader(path.open(newline="")))
        if path.suffix == ".json":
            names[f"keys of {name}"] = keys(json.loads(path.read_text()))
    return names


def keys(values, path: str = "") -> list[str]:
    """The keys of nested dicts, by path; those of all entries of a list together."""
    if isinstance(values, list):
        return sorted({name for value in values for name in keys(value, f"{path}[]")})
    if not isinstance(values, dict):
        return []
    named = {f"{path}.{key}" if path else key: value for key, value in values.items()}
    return sorted({*named, *(name for key, value in named.items() for name in keys(value, key))})


def of_flags(task: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """All flags of a script, those that its help does not list as well, and the values that they are limited to."""
    parsers = []

    def parse(parser, *_):
        parsers.append(parser)
        raise SystemExit(0)

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
        call_main(task, [], Path.cwd())
    (parser,) = parsers
    flags = {option: action for action in parser._actions for option in action.option_strings}
    choices = {flag: action.choices or re.findall(r"[^{},]+", action.metavar or "") for flag, action in flags.items()}
    limited = {flag for flag, action in flags.items() if action.choices or (action.metavar or "").startswith("{")}
    return {"flags": sorted(flags), **{f"values of {flag}": sorted(choices[flag]) for flag in sorted(limited)}}


def of_package() -> dict[str, list[str]]:
    """The public names, the parameters of the functions and the attributes of their results."""
    functions = (dawp.denoise, dawp.dereverb, dawp.inpaint, dawp.restore)
    return {
        "names": sorted(dawp.__all__),
        **{f"parameters of {one.__name__}": list(inspect.signature(one).parameters) for one in functions},
        **{f"attributes of {one.__name__}": names_of_fields(one) for one in (dawp.Result, dawp.BestEstimate)},
    }


def names_of_fields(one: type) -> list[str]:
    return [field.name for field in dataclasses.fields(one)]


NAMES = {
    NUMBERS: [*CASES, *(f"library {name}" for name in LIBRARY), "table 3", "settings"],
    INTERFACE: [*TASKS, *(f"restore {task}" for task in TASKS), *(f"{task}.py" for task in TASKS), "dawp"],
}


def check_names(name: str, found: dict[str, list[str]]) -> None:
    """Nothing of a reference may be missing; names may be added."""
    if UPDATE:
        update(INTERFACE, name, found)
    assert not missing_names(found, references(INTERFACE)[name])


def missing_names(found: dict[str, list[str]], reference: dict[str, list[str]]) -> list[str]:
    return [f"{part}: {name}" for part, names in reference.items() for name in names if name not in found.get(part, [])]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_names_in_a_run_folder_are_unchanged(task, folder):
    check_names(task, of_run(task, folder))


@pytest.mark.parametrize("task", TASKS)
def test_the_names_beside_a_restored_file_are_unchanged(task, folder):
    check_names(f"restore {task}", of_restoration(task, folder))


@pytest.mark.parametrize("task", TASKS)
def test_the_flags_are_unchanged(task, monkeypatch):
    check_names(f"{task}.py", of_flags(task, monkeypatch))


def test_the_public_names_are_unchanged():
    check_names("dawp", of_package())


def test_a_renamed_name_is_missing_and_an_added_one_is_not():
    reference = {"files": ["a.wav", "b.wav"], "keys of b.json": ["one"]}
    assert not missing_names({"files": ["a.wav", "b.wav", "c.wav"], "keys of b.json": ["one", "two"]}, reference)
    assert missing_names({"files": ["a.wav", "B.wav"]}, reference) == ["files: b.wav", "keys of b.json: one"]


@pytest.mark.skipif(UPDATE, reason="the references are being updated")
@pytest.mark.parametrize("file", NAMES, ids=lambda file: file.name)
def test_each_reference_is_compared(file):
    assert list(references(file)) == NAMES[file]
