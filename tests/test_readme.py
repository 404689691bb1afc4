"""Test that flags, files, commands and results in the documents agree with the code and the results."""

import dataclasses
import importlib.util
import json
import re
import shlex
import statistics

import pytest
from conftest import ROOT
from test_cli import SEED_COMMAND

from dawp.cli import flag_rows, get_parser
from dawp.groups import groups_of
from dawp.settings import flag_of
from dawp.tasks.base import TASKS, get_task

DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md"))
}
README = DOCUMENTS["README.md"]
GROUPS = list(dict.fromkeys(group for task in TASKS for group in groups_of(task).values()))


def code_lines(text):
    """Return the lines of the fenced code blocks of a document."""
    return "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines()


@pytest.mark.parametrize("group", GROUPS)
def test_every_flag_with_its_default_is_in_a_table_of_its_group(group):
    title = group.__doc__.split(":")[0]
    (section,) = re.findall(rf"^## {title}\b.*?$(.*?)(?=^##)", DOCUMENTS["docs/flags.md"], re.MULTILINE | re.DOTALL)
    table = [line for line in section.splitlines() if line.startswith(("| `--", "| `-"))]
    assert table == [f"| {flag} | {default} | {text} |" for flag, default, text in flag_rows(group)]
    assert len(table) == len(dataclasses.fields(group))


def test_the_page_of_flags_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_flags", ROOT / "scripts" / "make_flags.py")
    make_flags = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_flags)
    assert DOCUMENTS["docs/flags.md"] == make_flags.page(), "run python scripts/make_flags.py"


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ("`fast`", get_task("denoise").preset("fast")),
        ("`restore`", get_task("denoise").preset("restore")),
        ("`restore` of dereverb.py", get_task("dereverb").preset("restore")),
        ("`restore` of inpaint.py", get_task("inpaint").preset("restore")),
        ("`fast` of inpaint.py", get_task("inpaint").preset("fast")),
    ],
)
def test_the_presets_are_listed_in_full(row, settings):
    (line,) = [line for line in DOCUMENTS["docs/presets.md"].splitlines() if line.startswith(f"| {row} |")]
    assert [f"`{flag_of(name, value)}`" for name, value in settings.items()] == re.findall(r"`-[^`]+`", line)


def test_documents_contain_no_placeholder():
    for document, text in DOCUMENTS.items():
        assert not re.findall(r"^[A-Z_]{4,}$", text, re.MULTILINE), document


@pytest.mark.parametrize(
    ("document", "task", "least"),
    [
        ("README.md", "denoise", 3),
        ("README.md", "dereverb", 1),
        ("README.md", "inpaint", 2),
        ("docs/experiments.md", "denoise", 5),
        ("docs/experiments.md", "dereverb", 3),
        ("docs/experiments.md", "inpaint", 4),
        ("docs/restoration.md", "denoise", 5),
    ],
)
def test_documents_show_commands_of_each_task(document, task, least):
    assert sum(line.startswith(f"python {task}.py ") for line in code_lines(DOCUMENTS[document])) >= least


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_the_documents_parse(document):
    commands = [*code_lines(DOCUMENTS[document]), *re.findall(r"`([^`]*)`", DOCUMENTS[document])]
    for command in commands:
        if found := re.match(r"python (\w+)\.py (.+)", command, re.DOTALL):
            parsed = vars(get_parser(found[1]).parse_args(shlex.split(found[2], comments=True)))
            assert parsed, command


def test_the_seed_command_is_shown():
    flags = " ".join(flag.format(source="SOURCE") for flag in SEED_COMMAND)
    assert flags in README


def test_the_readme_is_one_page():
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("document", DOCUMENTS)
def test_linked_files_exist(document):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", DOCUMENTS[document])
    assert links or document != "README.md"
    for link in links:
        assert ((ROOT / document).parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_linked_sections_exist(document):
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", DOCUMENTS[document])
    for path, anchor in links:
        target = ((ROOT / document).parent / path).resolve() if path else ROOT / document
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]
        assert anchor in slugs, f"{path}#{anchor}"


def test_scripts_in_the_documents_exist_and_are_executable():
    for script in {script for text in DOCUMENTS.values() for script in re.findall(r"scripts/\w+\.sh", text)}:
        assert (ROOT / script).stat().st_mode & 0o111, script


def tables():
    """Return the cells of the tables in docs/reproduction.md from the summary on, without headers."""
    text = DOCUMENTS["docs/reproduction.md"].split("\n## Does it reproduce?\n")[1]
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]] for table in found
    ]


def results(name):
    """Return, by row and kinds of sound, the values by title of the measure and the paper's values."""
    cells = json.loads((ROOT / "results" / f"{name}.json").read_text())["cells"]
    return {
        (cell["row"], tuple(cell["kinds"])): (
            {title: list(by_clip.values()) for title, by_clip in cell["clips"].items()},
            cell["paper"],
        )
        for cell in cells
    }


def mean(values):
    """Format the mean, with the standard deviation if there are several values."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def test_the_listed_results_agree_with_the_results_folder():
    _, table3, readings, table2, table1 = tables()
    found = {row: values for (row, _), values in results("table3").items()}
    assert [row for row, *_ in table3] == list(found)
    for row, clips, *listed in table3:
        measured, paper = found[row]
        expected = []
        for title, values in measured.items():
            expected += [mean(values), f"{paper[title]:.2f}"]
        assert listed == expected, row
        assert [int(clips)] * len(measured) == [len(values) for values in measured.values()]

    found = {row: values for (row, _), values in results("readings").items()}
    for (label, *listed), (row, (measured, _)) in zip(readings, found.items(), strict=True):
        assert label.startswith(row)
        assert listed == [mean(values) for values in measured.values()]

    found = results("table2")
    assert 2 * len(table2) == len(found)
    for title, *listed in table2:
        gap, kind = title.split(", ")
        both = [found[f"{gap} {network}", (kind,)] for network in ("Wave-U-Net", "Demucs")]
        expected = []
        for measure in ("SI-SNR", "PSNR"):
            for measured, paper in both:
                expected += [mean(measured[measure]), f"{paper[measure]:.2f}"]
        assert listed == expected, title

    with_lstm, fast, unaligned = (results(name) for name in ("table1", "table1-fast", "table1-unaligned"))
    assert len(table1) == len(with_lstm)
    for title, *listed in table1:
        rt60, kind = title.split(", ")
        key = (f"RT60 {rt60}", (kind,))
        expected = []
        for measure in ("SI-SNRi", "PSNRi"):
            expected += [mean(study[key][0][measure]) for study in (with_lstm, fast)]
            expected.append(f"{with_lstm[key][1][measure]:.2f}")
        expected += [mean(unaligned[key][0][measure]) for measure in ("SI-SNRi", "SI-SNR", "PSNRi")]
        assert listed == expected, title


def test_the_listed_verdicts_agree_with_the_results_folder():
    verdicts = {row: (word, why) for row, word, why in tables()[0]}
    for name in ("table3", "table2"):
        for conclusion in json.loads((ROOT / "results" / f"{name}.json").read_text())["conclusions"]:
            claim = conclusion["claim"].removesuffix(" by SI-SNR").split(" (")[0]
            if not claim.endswith("by PSNR"):
                ((word, why),) = [listed for row, listed in verdicts.items() if row.startswith(claim)]
                assert word == conclusion["verdict"]
                differences = re.findall(r"[+-]\d+\.\d+ ± \d+\.\d+", conclusion["why"])
                (clips,) = set(re.findall(r"(\d+) clips", conclusion["why"]))
                assert why == (
                    f"{differences[0]} dB, {clips} clips" if name == "table3" else f"{clips} clips, 500 epochs"
                )
    fast = json.loads((ROOT / "results/table1-fast.json").read_text())["conclusions"][0]
    assert verdicts["reverberation is removed, most at RT60 0.2 (Table 1)"] == (fast["verdict"], "9 clips")
