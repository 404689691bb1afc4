"""``report.html``: the results of a run in one page that needs no network access."""

from __future__ import annotations

import base64
import hashlib
import shlex
from pathlib import Path
from typing import Any

from dawp.errors import BadInput, printable
from dawp.io.files import RESULT, RUN_CONFIG, atomic_write, read_json, run_identity
from dawp.metrics.summary import rows, summarise
from dawp.report import pictures
from dawp.report.assets import PICTURES, Assets
from dawp.report.clips import Clip, make_clip
from dawp.report.tables import changed_flags, columns_of, facts_of_run, figures_across, format_number, sections_of
from dawp.runs.folder import SUMMARY, finished, refusals, repetition_folders

REPORT = "report.html"

NEEDED = {"task", "preset", "seed", "device", "command", "versions", "settings", "identity"}
"""Keys that config.json must have."""


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a run, from the files in it.

    Results that are missing in an unfinished run are marked.

    Args:
        folder: of the run.

    Returns:
        The path of the page.

    Raises:
        BadInput: the folder has no run, or config.json lacks some keys.
    """
    if run_identity(folder) is None:
        raise BadInput(
            f"{printable(folder)}: not a run's folder (it has no {RUN_CONFIG} of a run)", code="damaged_results"
        )
    lacking = NEEDED - read_json(folder / RUN_CONFIG).keys()
    if lacking:
        raise BadInput(
            f"{printable(folder / RUN_CONFIG)}: lacks {', '.join(sorted(lacking))}, which a report needs",
            code="damaged_results",
        )
    page = folder / REPORT
    assets = Assets(folder)
    text = _render(_collect(folder, assets))
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    assets.clear()
    return page


def is_stale(folder: Path) -> bool:
    """Return whether the page of a run is missing, or older than a result or the summary."""
    page, summary = folder / REPORT, folder / SUMMARY
    inputs = [repetition_dir / RESULT for repetition_dir in repetition_folders(folder) if finished(repetition_dir)]
    inputs += [summary] if summary.exists() else []
    return not page.exists() or any(path.stat().st_mtime > page.stat().st_mtime for path in inputs)


def _render(content: dict[str, Any]) -> str:
    import jinja2
    from markupsafe import Markup

    template_dir = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_dir),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    style, script = ((template_dir / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style_hash", style), ("script_hash", script))
    }
    # The hashes of the style and the script make the browser block any other code, such as code in a file name.
    template = environment.get_template("page.html")
    return template.render(**content, **hashes, style=Markup(style), script=Markup(script))  # noqa: S704


def _collect(folder: Path, assets: Assets) -> dict[str, Any]:
    """Collect the variables of the template."""
    about = read_json(folder / RUN_CONFIG)
    settings = {name: value for group in about["settings"].values() for name, value in group.items()}
    requested = settings["experiment_repetition"] or len(about["identity"]["recordings"])
    planned = max(requested, len(repetition_folders(folder)))  # a later command may have added some
    clips, results = [], []
    for repetition_dir in repetition_folders(folder):
        facts = finished(repetition_dir)
        number, _, name = repetition_dir.name.partition("_")
        try:
            clips.append(make_clip(repetition_dir, facts, settings["epochs"], assets))
            if facts:
                facts["repetition"] = int(number)
                summarise([facts]), rows([facts])  # raises here if the result is damaged
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
        "across": figures_across(results, assets),
        "clips": clips,
        "clips_by_number": {clip.number: clip.name for clip in clips},
        "linked": assets.sounds_are_linked,
        "pictures_folder": PICTURES if assets.written else None,
        "range_db": pictures.DYNAMIC_RANGE_DB,
    }
