"""Tests of the modules and settings that importing the package and --help load and change."""

import subprocess
import sys

import pytest
from conftest import ROOT

import dawp

HEAVY = {"torch", "torchaudio", "numpy", "scipy", "numba", "librosa", "matplotlib", "soundfile"}

IMPORT = """
import os, sys
before = dict(os.environ)
import dawp
from dawp import denoise
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
assert "restore" in dir(dawp) and "Result" in dir(dawp)
"""
THREADS = """
import torch
before = torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_default_dtype()
import dawp
for name in dawp.__all__:
    getattr(dawp, name)
assert (torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_default_dtype()) == before
"""
HELP = """
import os
os.environ.pop("GOMP_SPINCOUNT", None)
from dawp import cli
try:
    cli.main("denoise", ["--help"])
except SystemExit as end:
    assert end.code == 0
assert os.environ["GOMP_SPINCOUNT"] == "1000"  # set before PyTorch is loaded
"""


def loaded_by(code):
    """Return which of the heavy packages a new interpreter has loaded after running the code."""
    code += f"\nimport sys\nprint('loaded:', *({HEAVY!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("code", [IMPORT, HELP])
def test_the_import_and_the_help_load_no_heavy_package(code):
    assert loaded_by(code) == set()


@pytest.mark.slow
def test_the_public_names_change_no_settings_of_torch():
    assert "torch" in loaded_by(THREADS)


def test_every_public_name_is_listed_and_found():
    namespace = {}
    exec("from dawp import *", namespace)
    assert set(dawp.__all__) <= namespace.keys() & set(dir(dawp))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = dawp.no_such_name
