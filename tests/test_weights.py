"""Model files and the method ``unet``."""

import io
import pickle
import zipfile

import pytest
import soundfile
import torch
from conftest import call_main, refused_as, write_sound

import dawp
from dawp.errors import BadInput
from dawp.methods.trained import unet_method
from dawp.methods.trained.settings import UNetConfig
from dawp.methods.trained.unet import Autoencoder, Discriminator, UNet, double, halve, refine
from dawp.methods.trained.weights import Model, build_network, digest_of, load_model, save_model

SETTINGS = {
    **{"depth": 2, "channels": 4, "kernels": "3,5", "dropout": 0.0},
    **{"conditional": False, "collab": False, "collab_steps": 2, "collab_rate": 0.1},
}
CONFIG = UNetConfig(depth=2, channels=4, kernels="3,5")


def random_unet(seed=0):
    torch.manual_seed(seed)
    network = UNet(CONFIG)
    torch.nn.init.normal_(network.last.weight, std=0.05)
    return network


def model_of(network=None, **changed):
    networks = {"generator": (network or random_unet()).state_dict()}
    facts = {"kind": "unet", "task": "denoise", "rate": 16000, "settings": SETTINGS, "networks": networks, "facts": {}}
    return Model(**{**facts, **changed})


@pytest.fixture
def model(tmp_path):
    save_model(tmp_path / "model.pt", model_of())
    return tmp_path / "model.pt"


# Networks


@pytest.mark.parametrize("length", [64, 65, 100, 255, 1000, 1023])
@pytest.mark.parametrize("depth", [1, 3, 7])
def test_the_estimate_has_the_length_of_the_clip(length, depth):
    network = UNet(UNetConfig(depth=depth, channels=2, kernels="3"))
    assert network(torch.randn(2, 1, length)).shape == (2, 1, length)


def test_doubling_inverts_halving():
    x = torch.randn(2, 3, 8)
    assert torch.equal(double(halve(x)), x)
    assert torch.equal(halve(x)[0, :2, 1], x[0, 0, 2:4])


def test_a_new_network_returns_its_input():
    x = torch.randn(1, 1, 130)
    assert torch.equal(UNet(CONFIG)(x), x)


def test_the_output_depends_on_every_connection():
    network, x = random_unet(), torch.randn(1, 1, 64)
    hidden, inputs = network.encode(x)
    whole = network.decode(hidden, inputs)
    assert not torch.allclose(network.decode(0 * hidden, inputs), whole)
    for index in range(len(inputs)):
        changed = [0 * value if number == index else value for number, value in enumerate(inputs)]
        assert not torch.allclose(network.decode(hidden, changed), whole)


@pytest.mark.parametrize("conditional", [False, True])
def test_the_discriminator_returns_a_logit_for_each_clip(conditional):
    discriminator, x = Discriminator(CONFIG, conditional).eval(), torch.randn(3, 1, 101)
    logits = discriminator(x, torch.zeros_like(x))
    assert logits.shape == (3,)
    assert torch.equal(discriminator(x, torch.ones_like(x)), logits) != conditional


def test_the_code_of_the_autoencoder_has_fewer_values_than_the_clip():
    autoencoder, x = Autoencoder(UNetConfig(depth=4, channels=4, kernels="3")), torch.randn(1, 1, 1000)
    assert autoencoder(x).shape == x.shape
    assert autoencoder.encode(x).numel() <= 1008 / 4


def test_refinement_raises_the_logit_of_the_discriminator():
    generator, x = random_unet().eval(), torch.randn(2, 1, 256)
    torch.manual_seed(1)
    discriminator = Discriminator(CONFIG).eval()
    weights = [parameter.clone() for parameter in generator.parameters()]
    refined = refine(generator, discriminator, x, steps=5, rate=0.05)
    with torch.no_grad():
        assert (discriminator(refined, x) > discriminator(generator(x), x)).all()
    assert torch.allclose(refine(generator, discriminator, x, steps=1, rate=1e-12), generator(x), atol=1e-5)
    assert all(torch.equal(*pair) for pair in zip(weights, generator.parameters(), strict=True))


# Model files


def test_a_model_file_returns_what_was_saved(model):
    found, expected = load_model(model), model_of()
    assert (found.kind, found.task, found.rate, found.settings) == ("unet", "denoise", 16000, SETTINGS)
    weights = expected.networks["generator"]
    assert all(torch.equal(found.networks["generator"][name], weights[name]) for name in weights)


class Payload:
    """An object that runs code when it is unpickled by an unsafe loader."""

    def __reduce__(self):
        return print, ("unpickled",)


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def content_of(**changed):
    return saved({"format": 1, **vars(model_of()), **changed})


def compressed(content):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return file.getvalue()


WEIGHTS = random_unet().state_dict()
HOSTILE = {
    "empty": b"",
    "text": b"no weights",
    "truncated": content_of()[:-2000],
    "pickle": pickle.dumps({"format": 1}),
    "object": content_of(facts={"x": Payload()}),
    "whole object": saved(Payload()),
    "list": saved([1, 2]),
    "format": saved({"format": 2, **vars(model_of())}),
    "missing": saved({"format": 1, "kind": "unet"}),
    "unknown": content_of(more=1),
    "rate": content_of(rate=0),
    "rate of text": content_of(rate="16000"),
    "no networks": content_of(networks={}),
    "no tensor": content_of(networks={"generator": {"a": 1.0}}),
    "not finite": content_of(networks={"generator": {**WEIGHTS, "last.bias": torch.tensor([torch.nan])}}),
    "expanded": content_of(networks={"generator": {**WEIGHTS, "last.bias": torch.zeros(1).expand(10**9)}}),
    "sparse": content_of(networks={"generator": {**WEIGHTS, "last.bias": torch.zeros(1).to_sparse()}}),
    "lacking": content_of(networks={"generator": {name: WEIGHTS[name] for name in list(WEIGHTS)[1:]}}),
    "other shape": content_of(networks={"generator": {**WEIGHTS, "last.bias": torch.zeros(2)}}),
    "other type": content_of(networks={"generator": {**WEIGHTS, "last.bias": torch.zeros(1, dtype=torch.float64)}}),
    "other network": content_of(networks={"other": WEIGHTS}),
    "giant": content_of(settings={**SETTINGS, "channels": 1024, "depth": 12, "kernels": "511"}),
    "beyond bounds": content_of(settings={**SETTINGS, "channels": 10**9}),
    "setting of another type": content_of(settings={**SETTINGS, "channels": "4"}),
    "unknown setting": content_of(settings={**SETTINGS, "more": 1}),
    "compressed": compressed(content_of()),
    "discriminator missing": content_of(settings={**SETTINGS, "collab": True}),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name, tmp_path, capsys):
    (tmp_path / "model.pt").write_bytes(HOSTILE[name])
    with refused_as("unreadable_input", "model.pt|weights") as refusal:
        unet_method.load_unet(tmp_path / "model.pt", "denoise")
    assert len(str(refusal.value).splitlines()) == 1
    assert "unpickled" not in capsys.readouterr().out


def test_a_model_for_another_task_is_refused(model, tmp_path):
    with refused_as("invalid_setting", "denoise"):
        unet_method.load_unet(model, "declip")
    save_model(model, model_of(kind="diffusion"))
    with refused_as("invalid_setting", "diffusion"):
        unet_method.load_unet(model, "denoise")


def test_the_digest_follows_the_content(model, tmp_path):
    first = digest_of(model)
    copy = tmp_path / "copy.pt"
    copy.write_bytes(model.read_bytes())
    assert digest_of(copy) == first
    save_model(model, model_of(random_unet(1)))
    assert digest_of(model) != first


# The method


def restored(samples, rate=16000, task="denoise", **settings):
    return dawp.restore(samples, rate, task, method="unet", **settings)


def test_the_method_returns_the_output_of_the_network(model):
    noisy = 0.1 * torch.randn(3000)
    level = noisy.square().mean().sqrt()
    with torch.no_grad():
        expected = level * random_unet().eval()((noisy / level)[None, None])[0, 0]
    assert torch.allclose(restored(noisy, weights=model), expected, atol=1e-6)


def test_a_recording_of_another_rate_keeps_higher_frequencies(model):
    noisy = 0.1 * torch.randn(44100)
    change = torch.fft.rfft((restored(noisy, 44100, weights=model) - noisy).double()).abs().square()
    assert change[9000:].mean() < 1e-3 * change[10:7000].mean()


def test_blocks_agree_with_the_whole_recording(model):
    noisy = 0.1 * torch.randn(32000)
    whole, blocks = restored(noisy, weights=model), restored(noisy, weights=model, block=1.1, overlap=0.1)
    assert not torch.equal(whole, blocks)
    assert (whole - blocks).abs().max() < 0.02 * (whole - noisy).abs().max()


@pytest.mark.parametrize("task", ["denoise", "dereverb", "declick", "chain"])
def test_every_task_has_the_method(task, model, tmp_path):
    settings = {"corrupt": "denoise | declip"} if task == "chain" else {}
    save_model(model, model_of(task=task, facts={"corruption": settings}))
    noisy = 0.1 * torch.randn(4000)
    noisy[1000] = 0.9
    assert restored(noisy, task=task, weights=model, **settings).shape == noisy.shape


@pytest.mark.parametrize("trained", ["denoise", "declip | denoise", "noise | reverb", None])
def test_a_chain_needs_a_model_for_its_tasks(trained, model):
    save_model(model, model_of(task="chain", facts={"corruption": {"corrupt": trained}}))
    with pytest.raises(BadInput):
        restored(torch.randn(4000), task="chain", weights=model, corrupt="denoise | declip")


def test_a_folder_is_no_model_file(tmp_path):
    with pytest.raises(BadInput) as refusal:
        restored(torch.randn(4000), weights=tmp_path)
    assert refusal.value.code == "not_found"


def test_sizes_that_overflow_are_refused():
    with pytest.raises(BadInput):
        build_network(lambda: torch.nn.Linear(10**12, 10**12), {})


def test_gaps_are_filled_by_the_network(model):
    save_model(model, model_of(task="inpaint"))
    damaged = 0.1 * torch.randn(4000)
    damaged[2000:2040] = torch.nan
    filled = restored(damaged, task="inpaint", weights=model)
    assert filled.isfinite().all()
    assert filled[2010:2030].any()
    assert torch.equal(filled[:1900], damaged[:1900])


def test_weights_are_refused_before_a_recording_is_read(model, tmp_path):
    noisy = write_sound(tmp_path / "noisy.wav")
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    base = [str(noisy), "--restore", "--method", "unet", "-o", str(tmp_path / "out.wav")]
    for flags in ([], ["--weights", "none.pt"], ["--weights", str(tmp_path / "bad.pt")]):
        done = call_main("denoise", [*base, *flags], tmp_path)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "weights must be" in line
        assert not (tmp_path / "out.wav").exists()


def test_a_restoration_with_other_weights_is_another_one(model, tmp_path):
    noisy = write_sound(tmp_path / "noisy.wav")
    flags = [str(noisy), "--restore", "--method", "unet", "--weights", str(model), "-o", str(tmp_path / "out.wav")]
    assert call_main("denoise", flags, tmp_path).returncode == 0
    first = soundfile.read(tmp_path / "out.wav")[0]
    save_model(model, model_of(random_unet(1)))
    assert call_main("denoise", [*flags, "--overwrite"], tmp_path).returncode == 0
    assert abs(soundfile.read(tmp_path / "out.wav")[0] - first).max() > 0
