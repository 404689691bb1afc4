import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import refused_as

from dawp.cli import get_parser
from dawp.config import Config
from dawp.errors import BadInput
from dawp.groups import groups_of
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.methods.deep_prior.settings import FitConfig
from dawp.settings import flag_of
from dawp.tasks.base import PRESETS, TASKS, get_task
from dawp.tasks.denoise import NoiseConfig
from dawp.tasks.dereverb import ReverbConfig
from dawp.tasks.inpaint import GapConfig


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


def test_a_preset_may_differ_between_tasks():
    assert (
        Config.of("denoise", "fast").generator.lstm_layers == Config.of("dereverb", "fast").generator.lstm_layers == 0
    )
    assert Config.of("inpaint", "fast").generator.lstm_layers == 1
    assert Config.of("inpaint", "fast").fit.epochs == Config.of("denoise", "fast").fit.epochs


@pytest.mark.parametrize("task", TASKS)
def test_the_quick_preset_differs_from_restore_in_the_method_at_most(task):
    restore, quick = get_task(task).preset("restore"), get_task(task).preset("quick")
    assert {name for name in restore.keys() | quick.keys() if restore.get(name) != quick.get(name)} <= {"method"}


def test_the_quick_preset_restores_noise_without_a_network_and_is_only_for_restorations():
    assert Config.of("denoise", "quick", restore=True).restoration.method == "nmf"
    with pytest.raises(BadInput, match="preset quick needs --restore"):
        Config.of("denoise", "quick")


def test_the_stages_of_a_quick_chain_are_quick():
    stages = "bandwidth:cutoff=4000 | denoise:snr=10"
    chain = Config.of("chain", "quick", corrupt=stages, restore=True)
    assert [stage.restoration.method for stage in chain.stages] == ["nmf", "band_replication"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("task", TASKS)
def test_a_preset_equals_its_flags(task, preset):
    flags = [part for name, value in get_task(task).preset(preset).items() for part in flag_of(name, value).split()]
    restore = preset in ("restore", "quick")
    given = Config.of(task, restore=restore, **vars(get_parser(task).parse_args(flags)))
    same = Config.of(task, preset, restore=restore)
    assert dataclasses.replace(given, preset=preset) == same


@pytest.mark.parametrize(
    ("task", "settings", "expected"),
    [
        ("inpaint", {"restore": True}, ("auto", 60.0)),
        ("inpaint", {"restore": True, "block": 8.0}, ("auto", 8.0)),
        ("inpaint", {"restore": True, "method": "deep_prior"}, ("deep_prior", 4.0)),
        ("inpaint", {"restore": True, "method": "janssen"}, ("janssen", 4.0)),
        ("inpaint", {}, ("deep_prior", 4.0)),
        ("denoise", {"restore": True}, ("deep_prior", 4.0)),
    ],
)
def test_the_method_and_its_block_by_default(task, settings, expected):
    restoration = Config.of(task, "restore", **settings).restoration
    assert (restoration.method, restoration.block) == expected


@pytest.mark.parametrize("task", TASKS)
def test_setting_names_are_unique_over_the_groups(task):
    names = [setting.name for group in groups_of(task).values() for setting in dataclasses.fields(group)]
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
        ({"epochs": 10**400}, "epochs must be a whole number at least 1 and at most 10000000, got 1000"),
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
    with pytest.raises(BadInput, match="preset must be one of paper, fast, restore, quick, got slow"):
        Config.of("denoise", "slow")


def test_values_are_converted_to_the_type_of_the_setting():
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


def test_positions_are_parsed_from_text_or_a_sequence():
    for given in ("5,4,3", " 5, 4.0,3 ", (5, 4, 3), [5.0, 4.0, 3.0], np.array([5, 4, 3])):
        assert ReverbConfig(room_dim=given).room_dim == (5.0, 4.0, 3.0)
    assert ReverbConfig().room_dim is None


@pytest.mark.parametrize(
    ("config", "without_effect"),
    [
        (GeneratorConfig(generator="waveunet"), {"depth": 3, "lstm_layers": 0, "glu": True}),
        (GeneratorConfig(), {"waveunet_levels": 3, "waveunet_output": "linear"}),
        (GeneratorConfig(), {"spectrogram_network": "dcgan", "spectrogram_window": 64}),
        (ReverbConfig(rir_source=Path(__file__)), {"rt60": 0.5, "room_dim": (5, 4, 3), "ray_tracing": True}),
        (NoiseConfig(noise_source=Path(__file__)), {"noise_class": "UNIFORM"}),
        (GapConfig(gaps="0.5:0.01"), {"gap_ms": 5.0, "n_gaps": 3}),
    ],
)
def test_settings_without_effect_do_not_change_the_identity(config, without_effect):
    changed = dataclasses.replace(config, **without_effect)
    assert changed != config
    assert changed.identity() == config.identity()


def test_the_high_pass_of_a_restoration_is_automatic():
    assert Config.of("denoise", "restore").fit.highpass is None
    assert Config.of("denoise", "restore", highpass=0.0).fit.highpass == 0
    assert Config.of("denoise").fit.highpass == Config.of("inpaint", "restore").fit.highpass == 0
    with pytest.raises(BadInput, match=r"highpass must be 0 .*, got auto"):
        Config.of("inpaint", "restore", highpass=None)


def test_noise_intervals_are_parsed_in_any_format():
    assert NoiseConfig(noise_profile="1.5:0.2, 0:1e-1").profile == [(1.5, 0.2), (0.0, 0.1)]
    assert NoiseConfig().profile == []


@pytest.mark.parametrize(
    ("task", "settings", "counts"),
    [
        ("denoise", {"strength": 0.5}, True),
        ("denoise", {"strength": 0.0}, True),
        ("denoise", {"strength": 1.0}, True),
        ("dereverb", {"strength": 0.5}, True),
        ("inpaint", {"strength": 0.5}, False),
        ("denoise", {"noise_profile": "0:1"}, True),
        ("denoise", {"noise_profile": "0:1", "estimate": "mean"}, False),
        ("denoise", {"noise_profile": None}, False),
    ],
)
def test_restored_samples_depend_on_the_effective_settings(task, settings, counts):
    name = next(iter(settings))
    assert (name in Config.of(task, "restore", restore=True, **settings).effective()) == counts


def test_a_noise_profile_is_a_setting_of_restorations():
    assert "noise_profile" not in Config.of("denoise", "restore").effective()
    with refused_as("invalid_setting", "noise_profile"):
        Config.of("denoise", "restore", noise_profile="0:1")


def test_gaps_are_parsed_in_any_order_and_format():
    assert GapConfig(gaps="0.5:0.002, 0.25:1e-2").given == [(0.5, 0.002), (0.25, 0.01)]
    assert GapConfig(gaps="auto").given == GapConfig().given == []
    assert GapConfig(gaps="0.1:0.2,0.3:0.1").given  # a gap may start at the end of another


@pytest.mark.parametrize(("gaps", "counts"), [(None, True), ("auto", True), ("0.5:0.01", False)])
def test_min_gap_ms_has_an_effect_if_gaps_are_detected(gaps, counts):
    config = Config.of("inpaint", "restore", restore=True, gaps=gaps, min_gap_ms=3.0)
    assert ("min_gap_ms" in config.effective()) == counts
    assert "n_gaps" not in config.effective()


def test_attention_heads_have_an_effect_only_with_attention():
    def heads(**settings):
        return Config.of("denoise", attention_heads=4, **settings).effective().get("attention_heads")

    assert heads() is None
    assert heads(lstm_layers=0, attention_layers=2) == 4


def test_the_default_method_of_dereverb(tmp_path):
    rir = tmp_path / "hall.wav"
    rir.touch()

    def of(**settings):
        restoration = Config.of("dereverb", "restore", restore=True, **settings).restoration
        return restoration.method, restoration.block

    assert of() == ("wpe_late", 30.0)
    assert of(block=4.0) == ("wpe_late", 4.0)
    assert of(rir=rir) == ("least_squares", 4.0)
    assert of(rir=rir, method="deep_prior") == ("deep_prior", 4.0)
    assert Config.of("dereverb", "fast", restore=True).restoration.method == "deep_prior"


@pytest.mark.parametrize("task", [task for task in TASKS if task != "chain"])
def test_the_metrics_of_a_preset_are_for_experiments(task):
    assert Config.of(task, "restore", restore=True).metrics.without_clean == ()
