"""What the README says of flags, files and commands is so."""

import dataclasses
import json
import re
import statistics

import pytest
from conftest import ROOT
from test_cli import SEED_COMMAND

from dawp.cli import flag_rows, get_parser
from dawp.config import groups_of
from dawp.settings import flag_of
from dawp.tasks.base import TASKS, get_task

README = (ROOT / "README.md").read_text(encoding="utf-8")
GROUPS = list(dict.fromkeys(group for task in TASKS for group in groups_of(task).values()))


@pytest.mark.parametrize("group", GROUPS)
def test_every_flag_with_its_default_is_in_a_table_of_its_group(group):
    title = group.__doc__.split(":")[0]
    flags = README.split("\n## Flags\n")[1]
    (section,) = re.findall(rf"^### {title}\b.*?$(.*?)(?=^##)", flags, re.MULTILINE | re.DOTALL)
    table = [line for line in section.splitlines() if line.startswith(("| `--", "| `-"))]
    assert table == [f"| {flag} | {default} | {text} |" for flag, default, text in flag_rows(group)]
    assert len(table) == len(dataclasses.fields(group))


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
def test_the_presets_are_told_in_full(row, settings):
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {row} |")]
    assert [f"`{flag_of(name, value)}`" for name, value in settings.items()] == re.findall(r"`-[^`]+`", line)


def test_nothing_was_left_to_be_filled_in():
    assert not re.findall(r"^[A-Z_]{4,}$", README, re.MULTILINE)


@pytest.mark.parametrize(("task", "least"), [("denoise", 5), ("dereverb", 3), ("inpaint", 4)])
def test_commands_in_the_readme_parse(task, least):
    commands = re.findall(rf"^python {task}\.py (.+)$", README, re.MULTILINE)
    assert len(commands) >= least
    for command in commands:
        get_parser(task).parse_args(command.split("#")[0].split())


def test_the_seed_command_is_shown():
    flags = " ".join(flag.format(source="SOURCE") for flag in SEED_COMMAND)
    assert flags in README


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_scripts_named_are_there_and_executable():
    for script in set(re.findall(r"scripts/\w+\.sh", README)):
        assert (ROOT / script).stat().st_mode & 0o111, script


def tables(section):
    """The cells of each table in a section of the README, without the header."""
    text = README.split(f"\n### {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]] for table in found
    ]


def results(name):
    """By row and kinds of sound: what was measured, by the title of the measure, and the paper's numbers."""
    cells = json.loads((ROOT / "results" / f"{name}.json").read_text())["cells"]
    return {
        (cell["row"], tuple(cell["kinds"])): (
            {title: list(by_clip.values()) for title, by_clip in cell["clips"].items()},
            cell["paper"],
        )
        for cell in cells
    }


def mean(values):
    """With the standard deviation, if there are several."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def test_the_results_told_are_those_of_the_results_folder():
    _, table3, readings, table2, table1 = tables("Does it reproduce?")
    found = {row: values for (row, _), values in results("table3").items()}
    assert [row for row, *_ in table3] == list(found)
    for row, clips, *told in table3:
        measured, paper = found[row]
        expected = []
        for title, values in measured.items():
            expected += [mean(values), f"{paper[title]:.2f}"]
        assert told == expected, row
        assert [int(clips)] * len(measured) == [len(values) for values in measured.values()]

    found = {row: values for (row, _), values in results("readings").items()}
    for (told_as, *told), (row, (measured, _)) in zip(readings, found.items(), strict=True):
        assert told_as.startswith(row)
        assert told == [mean(values) for values in measured.values()]

    found = results("table2")
    assert 2 * len(table2) == len(found)
    for title, *told in table2:
        gap, kind = title.split(", ")
        both = [found[f"{gap} {network}", (kind,)] for network in ("Wave-U-Net", "Demucs")]
        expected = []
        for measure in ("SI-SNR", "PSNR"):
            for measured, paper in both:
                expected += [mean(measured[measure]), f"{paper[measure]:.2f}"]
        assert told == expected, title

    with_lstm, fast, unaligned = (results(name) for name in ("table1", "table1-fast", "table1-unaligned"))
    assert len(table1) == len(with_lstm)
    for title, *told in table1:
        rt60, kind = title.split(", ")
        key = (f"RT60 {rt60}", (kind,))
        expected = []
        for measure in ("SI-SNRi", "PSNRi"):
            expected += [mean(study[key][0][measure]) for study in (with_lstm, fast)]
            expected.append(f"{with_lstm[key][1][measure]:.2f}")
        expected += [mean(unaligned[key][0][measure]) for measure in ("SI-SNRi", "SI-SNR", "PSNRi")]
        assert told == expected, title


def test_the_verdicts_told_are_those_of_the_results_folder():
    verdicts = {row: (word, why) for row, word, why in tables("Does it reproduce?")[0]}
    for name in ("table3", "table2"):
        for conclusion in json.loads((ROOT / "results" / f"{name}.json").read_text())["conclusions"]:
            claim = conclusion["claim"].removesuffix(" by SI-SNR").split(" (")[0]
            if not claim.endswith("by PSNR"):
                ((word, why),) = [told for row, told in verdicts.items() if row.startswith(claim)]
                assert word == conclusion["verdict"]
                differences = re.findall(r"[+-]\d+\.\d+ ± \d+\.\d+", conclusion["why"])
                (clips,) = set(re.findall(r"(\d+) clips", conclusion["why"]))
                assert why == (
                    f"{differences[0]} dB, {clips} clips" if name == "table3" else f"{clips} clips, 500 epochs"
                )
    fast = json.loads((ROOT / "results/table1-fast.json").read_text())["conclusions"][0]
    assert verdicts["reverberation is taken out, most at RT60 0.2 (Table 1)"] == (fast["verdict"], "9 clips")
