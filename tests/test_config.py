import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dawp.config import PRESETS, Config, FitConfig, GeneratorConfig, groups_of
from dawp.errors import BadInput


def test_the_defaults_are_the_papers():
    config = Config.of("denoise")
    assert (config.generator.depth, config.generator.lstm_layers, config.generator.channels) == (2, 4, 64)
    assert (config.generator.glu, config.generator.skip, config.generator.resample) == (False, False, True)
    assert (config.fit.lr, config.fit.epochs, config.fit.crit, config.fit.resample_input) == (1e-4, 3000, "L1", False)
    assert (config.clip.samplerate, config.clip.clip_length, config.corruption.snr) == (16000, 2.0, 2.5)


def test_single_settings_override_a_preset():
    fast, changed = Config.of("denoise", "fast"), Config.of("denoise", "fast", lr=0.5)
    assert fast.fit.lr == PRESETS["fast"]["lr"]
    assert changed.fit.lr == 0.5
    assert dataclasses.replace(changed.fit, lr=fast.fit.lr) == fast.fit


def test_setting_names_are_unique_over_the_groups():
    names = [setting.name for group in groups_of("denoise").values() for setting in dataclasses.fields(group)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "depth must be a whole number at least 1 and at most 8, got 0"),
        ({"depth": 2.5}, "depth must be a whole number .*, got 2.5"),
        ({"depth": True}, "depth must be a whole number"),
        ({"epochs": 0}, "epochs must be a whole number at least 1 and .*, got 0"),
        ({"lr": -1}, "lr must be a number above 0 and at most .*, got -1"),
        ({"lr": float("nan")}, "lr must be a number above 0 and at most .*, got nan"),
        ({"lr": float("inf")}, "lr must be a number above 0 and at most .*, got inf"),
        ({"lr": None}, "lr must be a number above 0 and at most .*, got None"),
        ({"clip_length": -2}, "clip_length must be a number at least 0 and .*, got -2"),
        ({"snr": "abc"}, "snr must be a number .* or none .*, got abc"),
        ({"crit": "L3"}, "crit must be one of L1, L2, got L3"),
        ({"ema": 1.0}, "ema must be a number at least 0 and below 1, got 1.0"),
        ({"glu": "yes"}, "glu must be true or false, got yes"),
        ({"name": "../x"}, "name must be a plain folder name"),
        ({"name": "x\udcff"}, "name must be a plain folder name"),
        ({"name": "x" * 101}, "name must be a plain folder name of at most 100"),
        ({"source": ""}, "source must be a path"),
        ({"channels": 1}, "channels must be a whole number at least 2 and at most 4096, got 1"),
        ({"level_dbfs": -1000}, "level_dbfs must be a number at least -100"),
        ({"trim_start": 1e305}, "trim_start must be"),
        ({"epochs": 10**400}, "epochs must be a whole number at least 1 and at most 1e.07, got 1000"),
        ({"snr": 10**400}, "snr must be a number"),
        ({"lr": 1e300}, "lr must be"),
        ({"data_range": 1e200}, "data_range must be"),
        ({"seed": -1}, "seed must be"),
        ({"samplerate": 0}, "samplerate must be"),
        ({"lstm_layers": 2, "attention_layers": 1}, r"lstm_layers \(2\) and attention_layers \(1\) cannot both"),
        ({"lstm_layers": 0, "attention_layers": 1, "attention_heads": 3}, "attention_heads must divide the 128"),
        ({"learning_rate": 1}, "there is no setting learning_rate"),
        ({"epoch": 1}, "there is no setting epoch: did you mean epochs?"),
    ],
)
def test_bad_settings_are_refused_by_name_and_value(settings, message):
    with pytest.raises(BadInput, match=message):
        Config.of("denoise", **settings)


def test_an_unknown_preset():
    with pytest.raises(BadInput, match="preset must be one of paper, fast, got quick"):
        Config.of("denoise", "quick")


def test_values_take_their_settings_type():
    config = Config.of("denoise", lr=1, source="x.wav", snr=None, epochs=np.int64(7), noise_std=np.float32(0.5))
    assert (config.fit.epochs, config.corruption.noise_std) == (7, 0.5)
    assert type(config.fit.epochs) is int
    assert isinstance(config.fit.lr, float)
    assert config.run.source == Path("x.wav")
    assert config.corruption.snr is None


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FitConfig().lr = 1.0
    assert GeneratorConfig() == GeneratorConfig()
