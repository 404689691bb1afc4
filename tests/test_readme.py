"""What the README says of flags, files and commands is so."""

import re

from conftest import ROOT
from test_cli import SEED_COMMAND

from dawp.cli import flag_rows, get_parser
from dawp.config import PRESETS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_flag_with_its_default_is_in_the_table():
    table = [line for line in README.splitlines() if re.match(r"\| (`-\w`, )?`--\w+`", line)]
    assert table == [f"| {flag} | {default} | {text} |" for flag, default, text in flag_rows("denoise")]


def test_the_presets_are_told_in_full():
    (line,) = [line for line in README.splitlines() if line.startswith("| `fast` |")]
    assert [
        f"`--{name} {value}`" if value is not False else f"`--no_{name}`" for name, value in PRESETS["fast"].items()
    ] == re.findall(r"`-[^`]+`", line)


def test_commands_in_the_readme_parse():
    commands = re.findall(r"^python denoise\.py (.+)$", README, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        get_parser("denoise").parse_args(command.split("#")[0].split())


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
