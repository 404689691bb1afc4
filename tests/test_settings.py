"""Tests of the settings, and of importing them without signal processing packages."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
from conftest import ROOT

from dawp.errors import BadInput
from dawp.settings import Settings, flag_of, setting


@dataclass(frozen=True)
class Toy(Settings):
    """Toy: a group of settings from outside the package."""

    toy_level: float | None = setting(1.0, "a level", above=0, below=2, none="no level", none_word="off")
    toy_place: tuple[float, float, float] = setting((1.0, 2.0, 3.0), "a place", at_least=0)


def test_a_group_from_outside_the_package_is_validated():
    assert Toy(toy_level="off").toy_level is None
    assert Toy(toy_place="4,5,6").toy_place == (4.0, 5.0, 6.0)
    for wrong in ({"toy_level": 0}, {"toy_level": 2}, {"toy_level": "none"}, {"toy_place": "1,2"}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Toy(**wrong)


def test_none_is_written_as_the_setting_defines_it():
    assert flag_of("toy_level", None) == "--toy_level off"
    assert flag_of("threads", None) == "--threads auto"
    assert flag_of("snr", None) == "--snr none"


def test_the_configuration_loads_without_the_packages_of_signal_processing():
    # Replace the package by an empty one to see what the configuration imports.
    code = """
import sys, types
package = types.ModuleType("dawp")
package.__path__ = [sys.argv[1]]
sys.modules["dawp"] = package
import dawp.config
dawp.config.Config.of("denoise", "fast")
print(*{"torch", "torchaudio", "numpy", "scipy", "matplotlib"} & sys.modules.keys())
"""
    command = [sys.executable, "-c", code, str(ROOT / "dawp")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
