"""``report.html``: all that a run's folder holds, in one page that opens in any browser and asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import shlex
from pathlib import Path
from typing import Any

from dawp.errors import BadInput, printable
from dawp.io.files import RESULT, RUN_CONFIG, atomic_write, read_json, run_identity
from dawp.metrics.summary import LABELS, rows, summarise
from dawp.report import pictures
from dawp.report.assets import PICTURES, Assets
from dawp.report.clips import Clip, make_clip
from dawp.report.tables import changed_flags, columns_of, facts_of_run, figures_across, format_number, sections_of
from dawp.runs.folder import SUMMARY, finished, refusals, repetition_folders

REPORT = "report.html"

NEEDED = {"task", "preset", "seed", "device", "command", "versions", "settings", "identity"}
"""What config.json has to hold."""


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
    assets = Assets(folder)
    text = _render(_collect(folder, assets))
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    assets.clear()
    return page


def is_stale(folder: Path) -> bool:
    """Whether a run's page is not there, or older than one of its results or their summary."""
    page, summary = folder / REPORT, folder / SUMMARY
    told = [repetition_dir / RESULT for repetition_dir in repetition_folders(folder) if finished(repetition_dir)]
    told += [summary] if summary.exists() else []
    return not page.exists() or any(path.stat().st_mtime > page.stat().st_mtime for path in told)


def _render(content: dict[str, Any]) -> str:
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
    surroundings.filters["number"] = format_number
    style, script = ((template_dir / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style_hash", style), ("script_hash", script))
    }
    # Our own files, word for word: their hashes let the browser run nothing else, whatever a name may smuggle in.
    template = surroundings.get_template("page.html")
    return template.render(**content, **hashes, style=Markup(style), script=Markup(script))  # noqa: S704


def _collect(folder: Path, assets: Assets) -> dict[str, Any]:
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
            clips.append(make_clip(repetition_dir, facts, settings["epochs"], assets))
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
        "differing": changed_flags(about),
        "facts": facts_of_run(about, len(results), planned, seconds),
        "unfinished": planned - len(results),
        "refused": [(name, printable(why)) for name, why in refusals(folder).items()],
        "sections": sections_of(summary, about.get("published")) if summary else [],
        "published": about.get("published"),
        "several": len(results) > 1,
        "columns": columns_of(table),
        "rows": table,
        "labels": LABELS,
        "across": figures_across(results, assets),
        "clips": clips,
        "clips_by_number": {clip.number: clip.name for clip in clips},
        "linked": assets.sounds_are_linked,
        "pictures_folder": PICTURES if assets.written else None,
        "range_db": pictures.DYNAMIC_RANGE_DB,
    }
