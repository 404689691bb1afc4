import math

import numpy as np
import pyroomacoustics as pra
import pytest
import torch
from conftest import refused_as, write_sound
from pyroomacoustics.experimental import measure_rt60 as measure_with_library

from dawp.dsp.reverberation import measure_rt60
from dawp.errors import BadInput
from dawp.metrics.functions import si_snr
from dawp.randomness import seeded
from dawp.simulate.rooms import draw_room
from dawp.tasks.dereverb import ReverbConfig, add_reverb

RATE = 16000
ROOM = {"room_dim": (5.0, 4.0, 3.0), "source_pos": (1.0, 1.5, 1.2), "mic_pos": (2.5, 2.5, 1.6)}


def reverberate(clean, seed=0, rate=RATE, **settings):
    return add_reverb(clean, rate, ReverbConfig(**settings), seeded(seed, "corruption"))


def response(seed=0, seconds=1.0, **settings):
    """Return the response of a room to a click at 0.1 s, the direct path of the click, and the facts."""
    click = torch.zeros(round((seconds + 0.1) * RATE))
    click[1600] = 0.5
    problem = reverberate(click, seed, **settings)
    return problem.observed, problem.clean, problem.facts


def exponential(rt60, seconds=1.0, rate=RATE):
    """Return noise that decays by 60 dB in ``rt60`` seconds."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    rng = torch.Generator().manual_seed(0)
    return torch.randn(len(time), generator=rng, dtype=torch.float64) * 10 ** (-3 * time / rt60)


@pytest.mark.parametrize("rt60", [0.1, 0.3, 0.5])
def test_the_rt60_of_a_known_decay(rt60):
    assert measure_rt60(exponential(rt60), RATE) == pytest.approx(rt60, rel=0.03)


def test_no_rt60_without_a_decay():
    assert math.isnan(measure_rt60(torch.ones(100), RATE))
    assert math.isnan(measure_rt60(torch.tensor([1.0, 0.0, 0.0]), RATE))


@pytest.mark.parametrize("ray_tracing", [False, True])
@pytest.mark.parametrize("rt60", [0.1, 0.2, 0.5])
def test_the_rt60_is_the_requested_one_for_any_part_of_the_decay(rt60, ray_tracing):
    for seed in range(5):
        observed, _, facts = response(seed, rt60=rt60, ray_tracing=ray_tracing)
        assert facts["rt60"] == pytest.approx(rt60, rel=0.05)
        for decay_db in (20, 30) if ray_tracing else (20, 30, 60):
            measured = measure_with_library(observed[1590:].double().numpy(), RATE, decay_db=decay_db)
            assert measured == pytest.approx(rt60, rel=0.2)


def test_the_rt60_holds_in_a_cube_and_in_a_hall():
    for room, rt60 in (((4.0, 4.0, 4.0), 0.5), ((20.0, 20.0, 20.0), 1.0)):
        observed, _, facts = response(room_dim=room, rt60=rt60)
        assert facts["rt60"] == pytest.approx(rt60, rel=0.05)
        for decay_db in (20, 30, 50):
            measured = measure_with_library(observed[1590:].double().numpy(), RATE, decay_db=decay_db)
            assert measured == pytest.approx(rt60, rel=0.1)


def test_no_reflection_within_the_rt60_is_left_out():
    """Reflections of twice the order do not change the impulse response before the RT60."""
    room = draw_room(RATE, seeded(0, "corruption"), (4.0, 4.0, 4.0))
    enough, more = (room.response(0.5, order) for order in (room.order(0.3), 2 * room.order(0.3)))
    until = round(0.3 * RATE)
    torch.testing.assert_close(enough[:until], more[:until], atol=1e-9, rtol=1e-6)
    too_few = room.response(0.5, room.order(0.3) // 2)
    assert not torch.allclose(too_few, more[: len(too_few)], atol=1e-6)


def test_the_first_reflection_arrives_when_the_geometry_predicts():
    """Before the nearest image source is observed, the reverberant clip equals the direct path."""
    observed, direct, _ = response(rt60=0.3, **ROOM)
    assert direct.abs().argmax() == 1600
    assert direct.max().item() == pytest.approx(0.5, rel=0.4)  # the click lies between two samples
    way = math.dist(ROOM["source_pos"], ROOM["mic_pos"])
    images = []
    for axis in range(3):
        for wall in (0.0, ROOM["room_dim"][axis]):
            image = list(ROOM["source_pos"])
            image[axis] = 2 * wall - image[axis]
            images.append(math.dist(image, ROOM["mic_pos"]))
    first = 1600 + (min(images) - way) / 343 * RATE
    reflected = (observed - direct).abs()
    assert reflected[: int(first) - 42].max() < 1e-5  # 41 samples: half the length of the fractional delay's filter
    around = reflected[int(first) - 3 : int(first) + 4].max()
    assert around > 0.02
    # The amplitude of a reflection is at most that of its distance; the wall absorbs a part.
    assert around <= 0.5 * way / min(images)


def test_the_direct_to_reverberant_ratio_falls_with_distance():
    """In the same reverberant field it changes by 20 log10 of the ratio of the distances."""
    near = {**ROOM, "mic_pos": (1.5, 1.5, 1.2)}
    far = {**ROOM, "mic_pos": (3.0, 1.5, 1.2)}
    ratios = [reverberate(torch.ones(1000), rt60=0.5, **place).facts["drr_db"] for place in (near, far)]
    assert ratios[0] - ratios[1] == pytest.approx(20 * math.log10(2.0 / 0.5), abs=4)


def test_clean_and_corrupted_are_aligned_with_each_other_and_with_the_dry_clip(speech):
    for seed in range(4):
        problem = reverberate(speech, seed, rt60=0.5)
        assert len(problem.observed) == len(problem.clean) == len(speech)
        correlation = np.correlate(problem.clean.numpy(), speech.numpy(), "full")
        assert abs(int(correlation.argmax()) - (len(speech) - 1)) <= 1


def test_the_dry_reference_is_the_clip(speech):
    for seed in range(4):
        dry, direct = (reverberate(speech, seed, reference=reference) for reference in ("dry", "direct"))
        assert si_snr(dry.observed, direct.observed) > 100
        assert si_snr(dry.clean[50:-50], direct.clean[50:-50]) > 25
        # The alignment is accurate to a fraction of a sample; the clip before alignment is not.
        assert si_snr(dry.clean[50:-50], direct.clean[50:-50]) > si_snr(speech[50:-50], direct.clean[50:-50]) + 5


def test_the_unaligned_reference_is_the_clip_without_the_delay_to_the_microphone(speech):
    place = {"room_dim": (5.0, 4.0, 3.0), "source_pos": (1.0, 2.0, 1.5), "mic_pos": (3.0, 2.0, 1.5)}
    unaligned, aligned = (reverberate(speech, reference=reference, **place) for reference in ("unaligned", "direct"))
    assert si_snr(unaligned.clean, speech) > 100
    correlation = np.correlate(aligned.observed.numpy(), unaligned.observed.numpy(), "full")
    later = len(speech) - 1 - int(correlation.argmax())
    assert later >= round(2.0 / 343 * 16000)  # travel time over two metres; the simulation adds its own delay
    assert si_snr(unaligned.observed[later:], aligned.observed[:-later]) > 60
    assert si_snr(unaligned.observed, unaligned.clean) < si_snr(aligned.observed, aligned.clean) - 5


def test_a_response_that_delays_the_sound_beyond_the_clip_is_refused(tmp_path):
    response = torch.zeros(12000)
    response[9000], response[11000] = 1.0, 0.5
    settings = {"rir_source": write_sound(tmp_path / "far.wav", response), "reference": "unaligned"}
    with refused_as("unusable_recording", r"0\.562 s"):
        reverberate(torch.randn(8000), **settings)
    assert reverberate(torch.randn(9100), **settings).observed.abs().max() > 0.1


def test_a_loud_clip_does_not_clip(speech):
    problem = reverberate(0.99 * speech / speech.abs().max(), rt60=0.5)
    assert problem.observed.abs().max() <= 0.9901
    quiet = reverberate(0.01 * speech, rt60=0.5)
    torch.testing.assert_close(quiet.observed / quiet.observed.norm(), problem.observed / problem.observed.norm())


def test_same_seed_same_room(speech):
    first, again, other = (reverberate(speech, seed) for seed in (1, 1, 2))
    assert torch.equal(first.observed, again.observed)
    assert first.facts == again.facts
    assert first.facts["room_dim"] != other.facts["room_dim"]


def test_the_seed_determines_ray_tracing(speech):
    first, again = (reverberate(speech, 1, ray_tracing=True) for _ in range(2))
    assert torch.equal(first.observed, again.observed)


def test_random_rooms_are_within_their_bounds(speech):
    for seed in range(30):
        facts = reverberate(speech[:1000], seed, rt60=0.1).facts
        dim, source, microphone = (np.array(facts[name]) for name in ("room_dim", "source_pos", "mic_pos"))
        assert (dim >= (3, 3, 2.4)).all()
        assert (dim <= (6, 5, 3.2)).all()
        for place in (source, microphone):
            assert (place >= 0.5).all()
            assert (place <= dim - 0.5).all()
        assert 0.5 <= math.dist(source, microphone) <= 2.0


def test_given_positions_are_used(speech):
    facts = reverberate(speech, **ROOM).facts
    assert {name: tuple(facts[name]) for name in ROOM} == ROOM
    partly = reverberate(speech, mic_pos=(1.0, 1.0, 1.0)).facts
    assert partly["mic_pos"] == [1.0, 1.0, 1.0]
    assert partly["room_dim"] == reverberate(speech).facts["room_dim"]


def test_the_constants_of_pyroomacoustics_are_restored(speech):
    before = pra.constants.get("rir_hpf_enable")
    reverberate(speech[:1000])
    assert pra.constants.get("rir_hpf_enable") is before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rt60": 0.0}, "rt60 must be a number above 0 and at most 10, got 0"),
        ({"rt60": -0.2}, "rt60 must be a number above 0 and at most 10, got -0.2"),
        ({"rt60": 0.001, **ROOM}, r"rt60 must be from 0\.0\d+ to 0.9 s in the room of 5 x 4 x 3 m, got 0.001 s$"),
        ({"rt60": 9.0, **ROOM}, r"rt60 must be from 0\.0\d+ to 0.9 s .*\(ray_tracing.*got 9 s"),
        ({"rt60": 0.5, "room_dim": (100, 3, 3)}, r"rt60 must be from 0\.6\d+ to 0.88 s in .*, got 0.5 s$"),
        (
            {"rt60": 0.5, "room_dim": (100, 100, 100)},
            r"rt60 must be possible in .*\(ray_tracing.*, got 0.5 s, the nearest found was [\d.]+ s$",
        ),
        (
            {"rt60": 1.0, "room_dim": (50, 1, 1), "source_pos": (1, 0.5, 0.5), "mic_pos": (2, 0.5, 0.5)},
            r"rt60 must be possible in the room of 50 x 1 x 1 m \(ray_tracing.*, got 1 s$",
        ),
        ({"rt60": 9.9, "room_dim": (2.6, 2.6, 2.0), "ray_tracing": True}, r"from 0\.0\d+ to 6.8 s in .*, got 9.9 s$"),
        ({"rt60": 0.5, "room_dim": (1.0, 1.0, 1.0)}, "room_dim must .*, got 1,1,1$"),
        ({"room_dim": (2.0, 2.0, 2.0), "source_pos": (2.0, 1.0, 1.0)}, "source_pos must .* 2 x 2 x 2 m, got 2,1,1$"),
        ({**ROOM, "mic_pos": (1.0, 1.0, 5.0)}, "mic_pos must .* 5 x 4 x 3 m, got 1,1,5$"),
        ({**ROOM, "mic_pos": ROOM["source_pos"]}, "source_pos must be at least 5 cm .*, got 1,1.5,1.2$"),
        ({"room_dim": "4,5"}, "room_dim must be three numbers X,Y,Z, each at least 1 and at most 100.*got 4,5"),
        ({"source_pos": (1, -1, 1)}, "source_pos must be three numbers X,Y,Z, each above 0"),
        ({"mic_pos": (1, math.nan, 1)}, "mic_pos must be three numbers"),
        ({"reference": "wet"}, "reference must be one of direct, dry, unaligned, got wet"),
        ({"rir_source": "none.wav"}, "rir_source must be a sound file or a folder of them, got none.wav"),
    ],
)
def test_bad_rooms(speech, settings, message):
    with pytest.raises(BadInput, match=message):
        reverberate(speech, **settings)


def test_a_silent_clip_is_refused():
    with refused_as("unusable_recording", "clean clip"):
        reverberate(torch.zeros(RATE))


# Measured impulse responses


@pytest.fixture
def hall(tmp_path):
    """Write a response with a direct path of amplitude 0.8 after 100 samples and a decay with RT60 0.3 s after it."""
    samples = torch.zeros(RATE)
    samples[100] = 0.8
    samples[180:] += (0.1 * exponential(0.3)[:-180]).float()
    return write_sound(tmp_path / "rirs" / "hall.wav", samples, subtype="FLOAT")


def test_a_measured_response_is_convolved_with_the_clip(speech, hall):
    problem = reverberate(speech, rir_source=hall)
    samples = np.zeros(RATE)
    samples[100] = 0.8
    samples[180:] += 0.1 * exponential(0.3)[:-180].numpy()
    expected = np.convolve(speech.double().numpy(), samples / 0.8)[100 : 100 + RATE]
    gain = problem.observed.norm().item() / np.linalg.norm(expected)
    np.testing.assert_allclose(problem.observed.numpy(), gain * expected, atol=1e-5)
    np.testing.assert_allclose(problem.clean.numpy(), gain * speech.numpy(), atol=1e-6)
    assert problem.facts["rir"] == str(hall)
    assert problem.facts["rt60"] == pytest.approx(0.3, rel=0.2)


def test_measured_responses_of_opposite_sign_and_other_sample_rates(speech, hall, tmp_path):
    upright = reverberate(speech, rir_source=hall)
    samples = torch.zeros(RATE)
    samples[100] = 0.8
    samples[180:] += (0.1 * exponential(0.3)[:-180]).float()
    flipped = reverberate(speech, rir_source=write_sound(tmp_path / "f.wav", -samples, subtype="FLOAT"))
    torch.testing.assert_close(flipped.observed, upright.observed)
    stereo = torch.stack([samples, torch.randn(RATE)], dim=1)
    first = reverberate(speech, rir_source=write_sound(tmp_path / "s.wav", stereo, subtype="FLOAT"))
    torch.testing.assert_close(first.observed, upright.observed)
    other = write_sound(tmp_path / "o.wav", exponential(0.3, rate=48000).float() * 0.1, 48000, subtype="FLOAT")
    assert reverberate(speech, rir_source=other).facts["rt60"] == pytest.approx(0.3, rel=0.1)


def test_responses_from_a_folder_are_all_used(speech, hall, tmp_path):
    write_sound(tmp_path / "rirs" / "deep" / "b.wav", exponential(0.2).float() * 0.1)
    used = {reverberate(speech[:2000], seed, rir_source=tmp_path / "rirs").facts["rir"] for seed in range(12)}
    assert used == {str(hall), str(tmp_path / "rirs" / "deep" / "b.wav")}


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(1000), "silence"),
        (torch.full((1000,), torch.nan), "NaN or infinite"),
        (torch.tensor([0.0, 1.0, 0.5, 0.0]), "2.5 ms"),
        (torch.zeros(0), "no samples"),
    ],
)
def test_bad_responses(speech, tmp_path, samples, message):
    with pytest.raises(BadInput, match=message):
        reverberate(speech, rir_source=write_sound(tmp_path / "h.wav", samples, subtype="FLOAT"))
