"""What the README says of flags, files and commands is so."""

import dataclasses
import re

import pytest
from conftest import ROOT
from test_cli import SEED_COMMAND

from dawp.cli import flag_rows, get_parser
from dawp.config import CORRUPTIONS, PRESETS, groups_of, preset_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
GROUPS = list(dict.fromkeys(group for task in CORRUPTIONS for group in groups_of(task).values()))


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
        ("`fast`", PRESETS["fast"]),
        ("`restore`", PRESETS["restore"]),
        ("`restore` of dereverb.py", preset_of("dereverb", "restore")),
        ("`restore` of inpaint.py", preset_of("inpaint", "restore")),
        ("`fast` of inpaint.py", preset_of("inpaint", "fast")),
    ],
)
def test_the_presets_are_told_in_full(row, settings):
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {row} |")]
    assert [
        f"`--{name} {'none' if value is None else value}`" if value is not False else f"`--no_{name}`"
        for name, value in settings.items()
    ] == re.findall(r"`-[^`]+`", line)


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
