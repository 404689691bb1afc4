"""Tests of the set-up script with a fake interpreter, without installing anything."""

import os
import re
import subprocess

import pytest
from conftest import ROOT

PYTHON = """#!/usr/bin/env bash
echo "$@" >>calls
case "$*" in
*'print('*) echo "${VERSION:-3.11}" ;;
*'sys.exit('*) [[ ${VERSION:-3.11} != 3.9 ]] ;;
'-m venv'*) mkdir -p .venv/bin && cp "$0" .venv/bin/python && touch .venv/from_venv ;;
'-m pip install'*) [[ -z ${PIP_SAYS:-} ]] || { echo "$PIP_SAYS"; exit 1; } ;;
esac
"""


@pytest.fixture
def setup(tmp_path):
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/setup.sh", "requirements.txt", "setup.py", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "fake_python").write_text(PYTHON)
    (tmp_path / "fake_python").chmod(0o755)

    def run(**variables):
        (tmp_path / "calls").write_text("")
        environment = {**os.environ, "PYTHON": str(tmp_path / "fake_python"), **variables}
        result = subprocess.run(
            ["bash", "scripts/setup.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        return result, (tmp_path / "calls").read_text()

    return run


def test_setup_installs_once(setup):
    first, calls = setup()
    assert first.returncode == 0, first.stderr
    assert calls.count("-m pip install") == 1
    assert "-r requirements.txt -e .[baselines,metrics,cluster,tensorboard,train,dev]" in calls
    second, calls = setup()
    assert (second.returncode, second.stderr) == (0, "")
    assert len(calls.splitlines()) == 2  # two checks of the version


def test_changed_requirements_are_installed_into_the_same_environment(setup, tmp_path):
    setup()
    with (tmp_path / "requirements.txt").open("a") as file:
        file.write("# changed\n")
    again, calls = setup()
    assert again.returncode == 0
    assert "-m pip install" in calls
    assert "-m venv" not in calls


def test_another_python_recreates_the_environment(setup):
    setup()
    _, calls = setup(VERSION="3.12")
    assert "-m venv --clear .venv" in calls


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PYTHON": "no-such-python"}, ["no-such-python is not installed", "Python 3.10 or newer"]),
        ({"VERSION": "3.9"}, ["Python 3.10 or newer is required", "is 3.9"]),
        ({"PIP_SAYS": "error: command 'gcc' failed"}, ["the installation failed", "C compiler", "build-essential"]),
        (
            {"PIP_SAYS": "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"},
            ["the installation failed", "disk space", "about 6 GB", "TMPDIR", "free:"],
        ),
        ({"PIP_SAYS": "No matching distribution found"}, ["the installation failed", "install.log"]),
    ],
)
def test_setup_stops_with_an_error_message(setup, tmp_path, variables, words):
    result, _ = setup(**variables)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("setup: ")
    for word in words:
        assert word in last
    assert not (tmp_path / ".venv" / "installed").exists()


def test_a_failed_installation_is_repeated(setup):
    setup(PIP_SAYS="no network")
    result, calls = setup()
    assert result.returncode == 0
    assert "-m pip install" in calls


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ""),
        (["-k", "noise"], " -k noise"),
        (["--quick", "-x"], " -m not slow{ignored} -x"),
        (["--coverage"], " --cov=dawp --cov-report=term:skip-covered"),
        (["--coverage", "--quick"], " --cov=dawp --cov-report=term:skip-covered -m not slow{ignored}"),
    ],
)
def test_the_checks_run_before_the_tests(tmp_path, arguments, expected):
    programs = {
        "scripts/setup.sh": "exit 0",
        ".venv/bin/python": 'echo "$@" >>calls',
        ".venv/bin/lint-imports": "echo lint-imports >>calls",
    }
    for name, line in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "scripts" / "test.sh").write_bytes((ROOT / "scripts" / "test.sh").read_bytes())
    subprocess.run(["bash", "scripts/test.sh", *arguments], cwd=tmp_path, check=True)
    *checks, tests = (tmp_path / "calls").read_text().splitlines()
    assert [check.split()[-1] for check in checks] == [".", ".", "mypy", "lint-imports", "--strict"]
    ignored = re.findall(r" --ignore=(\S+)", tests)
    assert all((ROOT / path).exists() for path in ignored)
    expected = expected.format(ignored="".join(f" --ignore={path}" for path in ignored))
    assert tests == f"-m pytest --numprocesses auto{expected}"
