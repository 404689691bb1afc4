"""``report.html``: all that a run's folder holds, in one page that opens in any browser and asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dawp.config import Config, groups_of
from dawp.errors import BadInput, printable
from dawp.io.files import RESULT, RUN_CONFIG, atomic_write, read_json, run_identity
from dawp.methods.deep_prior.stopping import EMA
from dawp.parallel.progress import format_duration
from dawp.report import pictures
from dawp.runs.folder import NOT_IDENTITY, SUMMARY, finished, refusals, repetition_folders
from dawp.runs.summary import LABELS, rows, sections, summarise
from dawp.settings import flag_of
from dawp.tasks.base import PRESETS, get_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from PIL.Image import Image

Draw = Callable[[Path, dict[str, Any], Path], None]
"""Draws a picture of a repetition's folder, given the content of its result.json, into a file."""

REPORT = "report.html"
PICTURES = "report_pictures"
MOST_EMBEDDED = 20_000_000  # bytes of sounds in the page, and as many of pictures
MOST_FRAMES = 500  # of a spectrogram
QUALITY = 75  # of pictures
FAINT = 0.25  # RMS relative to the corrupted clip (-12 dB): others are not made as soft as what is fainter

NEEDED = {"task", "preset", "seed", "device", "command", "versions", "settings", "identity"}
"""What config.json has to hold."""

UNITS = {
    "snr_db": "SNR (dB)",
    "level_dbfs": "level (dBFS)",
    "rt60": "RT60 (s)",
    "rt60_asked": "RT60 asked (s)",
    "drr_db": "direct to reverberant (dB)",
    "room_dim": "room (m)",
    "source_pos": "source at (m)",
    "mic_pos": "microphone at (m)",
}
"""Numbers of a corruption with their units."""


@dataclass(frozen=True)
class Picture:
    """A picture in the page: where it is, and what it shows in words."""

    src: str
    alt: str


@dataclass(frozen=True)
class Sound:
    """A sound with its player and its spectrogram.

    Attributes:
        volume: that makes the sounds of a clip equally loud.
        values: what the metrics say of it.
    """

    title: str
    src: str
    volume: float
    spectrogram: Picture
    values: list[str]


@dataclass(frozen=True)
class Curves:
    """The picture of the curves, and where in it the epochs are: shares of its width."""

    picture: Picture
    epochs: int
    left: float = pictures.MARGINS[0] / pictures.WIDTH
    right: float = 1 - pictures.MARGINS[1] / pictures.WIDTH


@dataclass
class Clip:
    """A repetition in the page."""

    number: int
    name: str
    path: str = ""
    missing: list[str] = field(default_factory=list)
    error: str | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    curves: Curves | None = None
    figures: list[Picture] = field(default_factory=list)
    rate: int = 0
    length: float = 0.0  # seconds


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder, from the files that are in it.

    What an unfinished run has not yet is marked as missing.

    Args:
        folder: of the run.

    Returns:
        The page's path.

    Raises:
        BadInput: the folder holds no run, or one whose config.json is not whole.
    """
    if run_identity(folder) is None:
        raise BadInput(f"{printable(folder)}: not a run's folder (it has no {RUN_CONFIG} of a run)")
    lacking = NEEDED - read_json(folder / RUN_CONFIG).keys()
    if lacking:
        raise BadInput(f"{printable(folder / RUN_CONFIG)}: lacks {', '.join(sorted(lacking))}, which a report needs")
    page = folder / REPORT
    shelf = _Shelf(folder, sounds_are_linked=_sound_bytes(folder) > MOST_EMBEDDED)
    text = _rendered(_gathered(folder, shelf))
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    shelf.clear()
    return page


def is_stale(folder: Path) -> bool:
    """Whether a run's page is not there, or older than one of its results or their summary."""
    page, summary = folder / REPORT, folder / SUMMARY
    told = [repetition_dir / RESULT for repetition_dir in repetition_folders(folder) if finished(repetition_dir)]
    told += [summary] if summary.exists() else []
    return not page.exists() or any(path.stat().st_mtime > page.stat().st_mtime for path in told)


def _rendered(content: dict[str, Any]) -> str:
    import jinja2
    from markupsafe import Markup

    template_dir = Path(__file__).parent
    surroundings = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_dir),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    surroundings.filters["number"] = _number
    style, script = ((template_dir / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style_hash", style), ("script_hash", script))
    }
    # Our own files, word for word: their hashes let the browser run nothing else, whatever a name may smuggle in.
    template = surroundings.get_template("page.html")
    return template.render(**content, **hashes, style=Markup(style), script=Markup(script))  # noqa: S704


def _gathered(folder: Path, shelf: _Shelf) -> dict[str, Any]:
    """What the template shows."""
    about = read_json(folder / RUN_CONFIG)
    settings = {name: value for group in about["settings"].values() for name, value in group.items()}
    asked = settings["experiment_repetition"] or len(about["identity"]["recordings"])
    planned = max(asked, len(repetition_folders(folder)))  # a later command may have gone on
    clips, results = [], []
    for repetition_dir in repetition_folders(folder):
        facts = finished(repetition_dir)
        number, _, name = repetition_dir.name.partition("_")
        try:
            clips.append(_clip(repetition_dir, facts, settings["epochs"], shelf))
            if facts:
                facts["repetition"] = int(number)
                summarise([facts]), rows([facts])  # what is wrong with it shows here, and not among the others
                results.append(facts)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            clips[:] = [clip for clip in clips if clip.number != int(number)]
            clips.append(Clip(int(number), name, missing=["its files cannot be read"]))
    summary = summarise(results) if results else None
    header, lines = rows(results)
    table = [dict(zip(header, line, strict=True)) for line in lines]
    seconds = sum(facts["seconds"] for facts in results)
    return {
        "about": about,
        "name": folder.resolve().name,
        "command": printable(shlex.join(about["command"])) if about["command"] else None,
        "differing": _differing(about),
        "facts": _facts_of_run(about, len(results), planned, seconds),
        "unfinished": planned - len(results),
        "refused": [(name, printable(why)) for name, why in refusals(folder).items()],
        "sections": _sections(summary, about.get("published")) if summary else [],
        "published": about.get("published"),
        "several": len(results) > 1,
        "columns": _columns(table),
        "rows": table,
        "labels": LABELS,
        "across": _across(results, shelf),
        "clips": clips,
        "clips_by_number": {clip.number: clip.name for clip in clips},
        "linked": shelf.sounds_are_linked,
        "pictures_folder": PICTURES if shelf.written else None,
        "range_db": pictures.DYNAMIC_RANGE_DB,
    }


class _Shelf:
    """Puts sounds and pictures into the page, or beside it where they are too many.

    Args:
        folder: of the run.
        sounds_are_linked: the page plays the sound files that lie in the repetitions' folders.
    """

    def __init__(self, folder: Path, sounds_are_linked: bool) -> None:
        self._folder = folder
        self.sounds_are_linked = sounds_are_linked
        self._room = MOST_EMBEDDED
        self.written: set[Path] = set()

    def sound(self, path: Path, samples: NDArray[Any], rate: int, scale: float) -> str:
        """The address of a sound, which is scaled if it is put into the page."""
        import soundfile

        if self.sounds_are_linked:
            return quote(path.relative_to(self._folder).as_posix(), errors="surrogateescape")
        packed = io.BytesIO()
        soundfile.write(packed, samples * scale, rate, format="FLAC", subtype="PCM_16")
        return _embedded(packed.getvalue(), "audio/flac")

    def picture(self, content: bytes, alt: str) -> Picture:
        self._room -= len(content) * 4 // 3
        if self._room >= 0:
            return Picture(_embedded(content, "image/webp"), alt)
        # Named by what it shows: an earlier page that is still there goes on showing its own.
        place = self._folder / PICTURES / f"{hashlib.sha256(content).hexdigest()[:16]}.webp"
        self.written.add(place)
        place.parent.mkdir(exist_ok=True)
        with atomic_write(place) as temporary:
            temporary.write_bytes(content)
        return Picture(f"{PICTURES}/{place.name}", alt)

    def clear(self) -> None:
        """Remove the pictures of earlier pages, and their folder if nothing is left in it."""
        there = self._folder / PICTURES
        with suppress(OSError):
            for place in there.glob("[!.]*.webp"):
                if place not in self.written:
                    place.unlink(missing_ok=True)
            there.rmdir()

    def drawn(self, repetition_dir: Path, name: str, draw: Draw, facts: dict[str, Any] | None, alt: str) -> Picture:
        """A picture of a repetition: that in its folder, or drawn now if it is not there or older than its data."""
        from PIL.Image import open as opened

        with TemporaryDirectory() as scratch:
            path, data = repetition_dir / name, repetition_dir / "metrics.csv"
            if not path.is_file() or path.stat().st_mtime_ns < data.stat().st_mtime_ns:
                path = Path(scratch) / name
                draw(repetition_dir, facts or {}, path)
            with opened(path) as picture:
                return self.picture(_webp(picture.convert("RGB")), alt)

    def figure(self, figure: Figure, alt: str) -> Picture:
        drawn = io.BytesIO()
        figure.savefig(drawn, format="webp", pil_kwargs={"quality": QUALITY})
        return self.picture(drawn.getvalue(), alt)


def _webp(picture: Image) -> bytes:
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=QUALITY)
    return packed.getvalue()


def _embedded(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _sound_bytes(folder: Path) -> int:
    """What all sounds of a run would take in its page, at most: half of what their samples take as floats, as text."""
    return (
        sum(
            path.stat().st_size
            for repetition_dir in repetition_folders(folder)
            for path in pictures.sounds_of(repetition_dir)
        )
        * 2
        // 3
    )


def _clip(repetition_dir: Path, facts: dict[str, Any] | None, epochs: int, shelf: _Shelf) -> Clip:
    """A repetition; ``facts`` is None while it is unfinished."""
    number, _, name = repetition_dir.name.partition("_")
    clip = Clip(int(number), name)
    columns: dict[str, NDArray[Any]] = {}
    if (repetition_dir / "metrics.csv").is_file():
        columns = pictures.read_columns(repetition_dir / "metrics.csv")
    if facts:
        clip.name, clip.path = printable(Path(facts["recording"]).name), printable(facts["recording"])
        clip.error, clip.facts = facts["error"], _facts_of_clip(facts)
    else:
        done = len(columns["epoch"]) if columns else 0
        clip.missing.append(f"the fit is not finished: metrics up to epoch {done} of {epochs} so far")
    sounds = pictures.load_sounds(repetition_dir)
    loaded = {path: samples for path, (samples, _) in sounds.items()}
    for samples, rate in sounds.values():
        clip.rate, clip.length = rate, len(samples) / rate
    expected = ["corrupted", "restored", *(["clean"] if facts and facts["best"] else [])]
    clip.missing += [f"{what}.wav" for what in expected if facts and repetition_dir / f"{what}.wav" not in loaded]
    if loaded:
        _show_sounds(repetition_dir, clip, loaded, facts, columns, shelf)
    if columns and len(columns["epoch"]):
        alt = f"Metrics and loss of {clip.name} against the epoch{_told(facts or {})}"
        clip.curves = Curves(
            shelf.drawn(repetition_dir, "curves.png", pictures.draw_curves, facts, alt), len(columns["epoch"])
        )
    if facts and facts["corruption"].get("gaps"):
        alt = f"Waveforms around the first gaps of {clip.name}, as they were and as they were filled"
        clip.figures.append(shelf.drawn(repetition_dir, "gaps.png", pictures.draw_gaps, facts, alt))
    if facts and (repetition_dir / "rir.wav").is_file():
        alt = f"Impulse response of the room of {clip.name}, and its decay"
        clip.figures.append(shelf.drawn(repetition_dir, "room.png", pictures.draw_room, facts, alt))
    return clip


def _show_sounds(
    repetition_dir: Path,
    clip: Clip,
    loaded: dict[Path, NDArray[Any]],
    facts: dict[str, Any] | None,
    columns: dict[str, NDArray[Any]],
    shelf: _Shelf,
) -> None:
    """Give a clip its sounds, and the outputs that were kept."""
    import numpy as np
    from PIL.Image import fromarray

    scale = 1 / max(1.0, *(float(np.abs(samples).max()) for samples in loaded.values()))
    magnitudes = dict(zip(loaded, pictures.magnitudes(loaded.values(), MOST_FRAMES), strict=True))
    loudest = max(float(magnitude.max()) for magnitude in magnitudes.values())
    volumes = _volumes({path: float(np.sqrt(np.mean(np.square(s)))) for path, s in loaded.items()}, repetition_dir)
    for path, samples in loaded.items():
        epoch = int(path.stem.removeprefix("epoch_")) if path.parent != repetition_dir else None
        title = pictures.title_of(path.stem) if epoch is None else f"the output at epoch {epoch}"
        alt = f"Spectrogram of {title} of {clip.name}, 0 to {clip.rate / 2000:g} kHz, {clip.length:.2f} s"
        pixels = pictures.spectrogram_pixels(magnitudes[path], loudest)
        sound = Sound(
            title,
            shelf.sound(path, samples, clip.rate, scale),
            volumes[path],
            shelf.picture(_webp(fromarray(pixels)), alt),
            _values(path.stem, facts) if epoch is None else _values_at(epoch, columns),
        )
        if epoch is None:
            clip.sounds.append(sound)
        else:
            clip.outputs.append({**vars(sound), "epoch": epoch, "spectrogram": vars(sound.spectrogram)})


def _volumes(rms: dict[Path, float], repetition_dir: Path) -> dict[Path, float]:
    """The volumes from 0 to 1 at which sounds have one RMS: the least of those about as loud as the corrupted clip.

    What is fainter, as the first outputs are, stays so: all would be faint beside it.
    """
    loud = rms.get(repetition_dir / "corrupted.wav", max(rms.values()))
    softest = min((level for level in rms.values() if level >= FAINT * loud), default=loud)
    return {path: min(1.0, softest / level) if level else 1.0 for path, level in rms.items()}


def _told(facts: dict[str, Any]) -> str:
    """What the curves show, in words."""
    parts = [
        f"{LABELS[name]} of the corrupted clip {_number(facts['input'][name])}, best {_number(best['value'])} "
        f"at epoch {best['epoch']}"
        for name, best in (facts.get("best") or {}).items()
        if name in LABELS and best["epoch"] is not None
    ]
    if facts.get("restored"):
        parts.append(f"blind stop at epoch {facts['restored']['epoch']}")
    return "".join(f"; {part}" for part in parts)


def _values(name: str, facts: dict[str, Any] | None) -> list[str]:
    """What the metrics say of a sound, by the name of its file."""
    if not facts:
        return []
    kind, _, what = name.partition("_")
    if kind == "best":
        best = facts["best"].get(what)
        if not best or best["epoch"] is None:
            return []
        there = [f"{LABELS['si_snr']} {_number(best['si_snr'])}"] if "si_snr" in best else []
        own = f"{LABELS[what]} {_number(best['value'])} ({_number(best['gain'], '+.2f')})"
        return [f"epoch {best['epoch']}", own, *there]
    if kind == "corrupted":
        return [f"{LABELS[metric]} {_number(value)}" for metric, value in facts["input"].items() if metric in LABELS]
    judged = facts["restored"] if kind == "restored" else facts["baselines"].get(what)
    if not judged:
        return []
    told = [f"epoch {judged['epoch']}"] if judged["epoch"] is not None else []
    return told + [
        f"{LABELS[metric]} {_number(value['value'])} ({_number(value['gain'], '+.2f')})"
        for metric, value in judged["metrics"].items()
        if metric in LABELS
    ]


def _values_at(epoch: int, columns: dict[str, NDArray[Any]]) -> list[str]:
    """What the metrics say of the output of an epoch."""
    if not columns or epoch > len(columns["epoch"]):
        return []
    values = ((label, float(columns[metric][epoch - 1])) for metric, label in LABELS.items() if metric in columns)
    return [f"{label} {_number(value)}" for label, value in values if math.isfinite(value)]


def _facts_of_run(about: dict[str, Any], done: int, planned: int, seconds: float) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {about['versions'].get(name) or '?'}" for name in ("python", "torch"))
    facts = [
        ("task", about["task"]),
        ("preset", about["preset"]),
        ("clips", f"{done} of {planned}" if done < planned else f"{done}"),
        ("device", about["device"]),
        ("time of the fits", format_duration(seconds) if done else "-"),
        ("begun", about.get("begun") or "-"),
        ("seed", about["seed"]),
        ("versions", versions),
    ]
    return [(name, str(value)) for name, value in facts]


def _facts_of_clip(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The corruption's numbers and the fit's."""
    rows = [
        (UNITS.get(name, name.replace("_", " ")), _fact(value))
        for name, value in facts["corruption"].items()
        if name != "gaps"
    ]
    gaps = facts["corruption"].get("gaps")
    if gaps:
        rows.append(("gaps", f"{len(gaps)}, {1000 * sum(length for _, length in gaps):.3g} ms in all"))
    length = f"{facts['samples'] / facts['sample_rate']:.2f} s at {facts['sample_rate']} Hz"
    return [
        *rows,
        ("length", length),
        ("epochs run", str(facts["epochs_run"])),
        ("time", format_duration(facts["seconds"])),
    ]


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_fact(part) for part in value)
    if isinstance(value, float):
        return _number(value, ".3g")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else printable(value)


def _differing(about: dict[str, Any]) -> list[str]:
    """The flags whose settings differ from the preset's."""
    if about["preset"] not in PRESETS:
        return []
    usual = get_task(about["task"]).preset(about["preset"])
    plain = {s.name: usual.get(s.name, s.default) for g in groups_of(about["task"]).values() for s in fields(g)}
    saved = {name: value for group in about["settings"].values() for name, value in group.items() if name in plain}
    try:
        effective = Config.of(about["task"], about["preset"], **saved).effective()
    except BadInput:  # of another version, or files that it names are gone
        effective = saved
    shown_here = (name for name in saved if name in effective and name not in NOT_IDENTITY)
    return [flag_of(name, saved[name]) for name in shown_here if saved[name] != plain[name]]


def _sections(summary: dict[str, Any], published: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The table of means: titles, and under each the metrics' statistics, with what was published beside them."""
    values = (published or {}).get("values", {})
    return [
        {
            "title": title or "best (oracle stop)",
            "rows": [
                {"label": LABELS[name.removeprefix(EMA)], **statistics, "published": {} if title else values.get(name)}
                for name, statistics in metrics.items()
            ],
        }
        for title, metrics in sections(summary).items()
        if metrics
    ]


def _columns(table: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The columns of the table of clips: key, heading, and how numbers are written."""
    present = {name for row in table for name in row}
    columns = []
    for metric, label in LABELS.items():
        plain = label.removesuffix(" (dB)")
        columns += [
            (f"input_{metric}", f"{plain} corrupted", ".2f"),
            (f"best_{metric}", f"{plain} best", ".2f"),
            (f"gain_{metric}", f"{plain} gain", "+.2f"),
            (f"epoch_{metric}", f"{plain} epoch", ".0f"),
            (f"restored_gain_{metric}", f"{plain} gain, restored", "+.2f"),
        ]
    columns.append(("seconds", "seconds", ".0f"))
    return [column for column in columns if column[0] in present]


def _across(results: list[dict[str, Any]], shelf: _Shelf) -> list[Picture]:
    """What shows only over several repetitions: gains against inputs, and where the best epochs fell."""
    if len(results) < 2:
        return []

    def pairs(metric: str, kind: str) -> list[tuple[float, float]]:
        judged = [(r["best"] if kind == "best" else (r["restored"] or {}).get("metrics", {})) for r in results]
        both = [(r["input"].get(metric), j.get(metric, {}).get("gain")) for r, j in zip(results, judged, strict=True)]
        return [(given, gain) for given, gain in both if given is not None and gain is not None]

    drawn = []
    metric = next((metric for metric in ("si_snr", "gap_psnr", "psnr") if pairs(metric, "best")), None)
    if metric:
        points = {"best (oracle stop)": pairs(metric, "best"), "restored (blind stop)": pairs(metric, "restored")}
        alt = f"Gain in {LABELS[metric]} of each clip against what the corrupted clip had"
        drawn.append(shelf.figure(pictures.gains({t: p for t, p in points.items() if p}, metric), alt))
        oracle = [r["best"][metric]["epoch"] for r in results if r["best"][metric]["epoch"] is not None]
        blind = [r["restored"]["epoch"] for r in results if r["restored"]]
        epochs = {"best (oracle stop)": oracle, "restored (blind stop)": blind}
        alt = f"In how many clips the best epoch by {LABELS[metric]}, and the blind stop, fell where"
        drawn.append(shelf.figure(pictures.best_epochs({t: e for t, e in epochs.items() if e}), alt))
    return drawn


def _number(value: float | None, how: str = ".2f") -> str:
    """A number as the page shows it; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else format(value, how).replace("-", "−")
