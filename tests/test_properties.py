"""Properties that hold for any input, tried on generated examples.

The examples are the same every time. ``DAWP_EXAMPLES=10 pytest tests/test_properties.py`` tries ten times as many,
drawn at random.
"""

import io
import math
import os
import tempfile
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import fields
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import call_main
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_restore_command import TINY

from dawp.cli import get_parser
from dawp.config import Config
from dawp.errors import LONGEST_SHOWN, BadInput, printable
from dawp.groups import groups_of
from dawp.io.audio import REACH, mark_missing, resample, true_runs
from dawp.io.files import safe_name
from dawp.io.formats import BITS, FORMATS, UNLIMITED
from dawp.io.reader import Reader
from dawp.metrics.functions import psnr, si_snr
from dawp.restoration.blocks import overlap_add, split_blocks
from dawp.settings import kind_of
from dawp.tasks.inpaint import CROSSFADE

TASKS = ("denoise", "dereverb", "inpaint")
RATES = st.sampled_from([1000, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000]) | st.integers(
    1000, 192000
)
MAX_SAMPLES = 12000  # in all channels, so that a restoration takes a fraction of a second
LOSSLESS = {*BITS, *UNLIMITED}
UNSAFE = ("ALAC_20", "DWVW_16", "DWVW_24")  # libsndfile 1.2.2 cannot read its own output


def examples(count, slow=False):
    """Return the settings of a test with ``count`` examples; do not shrink failing examples of a slow test."""
    return settings(
        phases=[phase for phase in Phase if phase != Phase.explain and not (slow and phase == Phase.shrink)],
        max_examples=count * int(os.environ.get("DAWP_EXAMPLES", "1")),
        derandomize="DAWP_EXAMPLES" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


@contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def noise(frames, channels=1, seed=0):
    """Return white noise ``[frames, channels]`` at -20 dBFS."""
    return 0.1 * np.random.default_rng(seed).standard_normal((frames, channels))


def restored(place, source, *flags, task="denoise"):
    """Restore ``source`` in ``place`` into the folder ``out``, and check the properties that hold for any input."""
    before = {path for path in place.rglob("*") if path.is_file()}
    result = call_main(task, [*TINY, "--source", source, "-o", "out/", *flags], place)
    lines = result.stderr.splitlines()
    assert result.returncode in (0, 2, 3), result.stderr
    assert "Traceback" not in result.stderr
    assert all(line.isprintable() and len(line) < 3000 for line in lines), result.stderr
    written = {path for path in place.rglob("*") if path.is_file()} - before
    assert not [path for path in place.rglob(".*") if path not in before], written
    if result.returncode == 2:
        assert not written
    return result, [line for line in lines if f"{task}.py: error: " in line]


def sound(path):
    """Return the samples ``[frames, channels]``."""
    with Reader(path) as file:
        return file.read(0, 1 << 30)


# Any recording


def forms():
    """Return the suffix, format and subtype of every kind of recording that libsndfile can write."""
    for suffix, container in FORMATS.items():
        for name in (container, "WAVEX") if container == "WAV" else (container,):
            for subtype in soundfile.available_subtypes(name):
                if subtype == "OPUS" or suffix != ".opus":
                    yield suffix, name, subtype


@cache
def can_hold(form, rate, channels):
    """Return whether libsndfile can write such a file and read it back."""
    _, container, subtype = form
    file = io.BytesIO()
    try:
        soundfile.write(file, noise(1000, channels), rate, format=container, subtype=subtype)
        file.seek(0)
        with soundfile.SoundFile(file) as written:
            return subtype not in UNSAFE and len(written.read(1000)) == 1000
    except soundfile.SoundFileError:
        return False


@st.composite
def recordings(draw):
    """Draw form, rate, channels and frames."""
    form, rate, channels = draw(
        st.tuples(st.sampled_from(list(forms())), RATES, st.integers(1, 6)).filter(lambda drawn: can_hold(*drawn))
    )
    frames = draw(st.integers(64, max(64, min(int(1.5 * rate), MAX_SAMPLES // channels))))
    return form, rate, channels, frames


@pytest.mark.slow
@given(
    recording=recordings(),
    task=st.sampled_from(TASKS),
    working_rate=st.sampled_from(["none", "none", "8000", "16000"]),
    block=st.sampled_from([("4", "0.5"), ("0.5", "0.1"), ("0.4", "0")]),
    where=st.floats(0, 0.8),
)
@examples(40, slow=True)
def test_a_restored_file_has_the_properties_of_its_recording(recording, task, working_rate, block, where):
    (suffix, container, subtype), rate, channels, frames = recording
    with folder() as place:
        name = f"a{suffix}"
        soundfile.write(place / name, noise(frames, channels), rate, format=container, subtype=subtype)
        before, about = sound(place / name), soundfile.info(place / name)
        first, length = int(where * len(before)), max(1, len(before) // 10)
        gap = f"{first / rate}:{length / rate}"
        flags = ["--block", block[0], "--overlap", block[1], "--samplerate", working_rate, "--clip_mode", "clamp"]
        flags += ["--gaps", gap] if task == "inpaint" else []
        result, errors = restored(place, name, *flags, task=task)
        if result.returncode == 2 and working_rate != "none":  # too short at that rate, or a rate too odd
            assert len(errors) == 1, result.stderr
            return
        assert result.returncode == 0, result.stderr
        after, about_after = sound(place / "out" / name), soundfile.info(place / "out" / name)
    for fact in ("samplerate", "channels", "format", "subtype"):
        assert getattr(about_after, fact) == getattr(about, fact)
    assert len(after) == len(before)
    assert len(before) >= frames  # libsndfile pads the output in some formats
    assert np.isfinite(after).all()
    if task == "inpaint" and subtype in LOSSLESS:
        reach = max(1, round(CROSSFADE * rate))
        intact = np.ones(len(before), bool)
        intact[max(0, first - reach) : first + length + reach] = False
        np.testing.assert_allclose(after[intact], before[intact], atol=1e-7)
    if task != "dereverb" and len(before) >= 1000:  # in three epochs, dereverb does not learn the sound
        most = (
            0 if working_rate == "none" else math.ceil(rate / int(working_rate) / 4)
        )  # for sound with weak high frequencies
        for channel in range(channels):
            assert abs(lag(before[:, channel], after[:, channel])) <= most


def lag(waveform, other):
    """Return the lag of the second waveform in samples, at the peak of the cross-correlation."""
    size = 2 * len(waveform)
    spectrum = np.fft.rfft(other, size) * np.fft.rfft(waveform, size).conj()
    peak = int(np.fft.irfft(spectrum).argmax())
    return peak if peak < len(waveform) else peak - size


# Any list

NAMES = st.sampled_from(
    ["a.wav", "b.wav", "a.wav,b.wav", '"a.wav"', '"a.wav", b.wav', "c,d.wav", "list.txt", ".", "..", "/"]
)
TEXTS = st.text() | st.text(alphabet='a.wv,"\\# \t\x00\r\x1b\u2028/') | st.integers(0, 300000).map(lambda n: n * "x")
LISTS = st.builds(
    lambda lines, ends, coding: ends.join(lines).encode(coding, errors="replace"),
    st.lists(NAMES | TEXTS, max_size=5),
    st.sampled_from(["\n", "\r\n", "\n\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
)


@given(content=LISTS | st.binary(max_size=200))
@examples(100)
def test_any_list_is_accepted_or_refused(content):
    with folder() as place:
        for name in ("a.wav", "b.wav", "c,d.wav"):
            soundfile.write(place / name, noise(100), 8000)
        (place / "list.txt").write_bytes(content)
        result, errors = restored(place, "list.txt")
        assert bool(errors) == (result.returncode != 0)
        outputs = {path.name for path in place.glob("out/*.wav")}
        assert outputs <= {"a.wav", "b.wav", "c,d.wav"}
        assert bool(outputs) == (result.returncode != 2)


# Any gaps

SECONDS = (
    st.floats(0, 0.6).map(lambda s: f"{s:.4f}")
    | st.floats().map(str)
    | st.sampled_from(["0", "-0", "0.5", "1e400", "-1", "", " 0.1 ", "1_0", "٣", "1e-9"])
)
GAPS = (
    st.lists(st.tuples(st.floats(0, 0.45), st.floats(0.0002, 0.05)), min_size=1, max_size=4).map(
        lambda gaps: ",".join(f"{start:.4f}:{length:.4f}" for start, length in gaps)
    )
    | st.lists(st.builds("{}:{}".format, SECONDS, SECONDS), max_size=3).map(",".join)
    | st.text(alphabet="0123456789.:,-e", max_size=12)
    | st.text(max_size=5)
)


@given(gaps=GAPS)
@examples(80)
def test_any_gaps_are_filled_or_refused(gaps):
    rate, frames = 8000, 4000
    with folder() as place:
        soundfile.write(place / "a.wav", noise(frames), rate, subtype="FLOAT")
        before = sound(place / "a.wav")
        result, errors = restored(
            place, "a.wav", f"--gaps={gaps}", "--block", "0.2", "--overlap", "0.05", task="inpaint"
        )
        if result.returncode:
            assert len(errors) == 1, result.stderr
            return
        after = sound(place / "out" / "a.wav")
    assert after.shape == before.shape
    assert np.isfinite(after).all()
    intact = np.ones(frames, bool)
    for gap in gaps.split(","):
        start, length = map(float, gap.split(":"))
        reach = round(CROSSFADE * rate)
        intact[max(0, round(start * rate) - reach) : round((start + length) * rate) + reach] = False
    assert (after[intact] == before[intact]).all()


# Any bytes


@cache
def original(form):
    """Return the bytes of a sound file of 0.3 s; empty if libsndfile does not write the format."""
    suffix, container, subtype = form
    with folder() as place:
        path = place / f"a{suffix}"
        for channels in (2, 1):
            with suppress(soundfile.SoundFileError):
                soundfile.write(path, noise(4800, channels), 16000, format=container, subtype=subtype)
                return path.read_bytes()
    return b""


PLACES = st.floats(0, 1) | st.integers(0, 100)
"""Position of a byte: fraction of the file, or one of the first hundred bytes."""
DAMAGES = st.tuples(
    st.sampled_from(["flip", "cut", "insert", "delete", "zero"]), PLACES, st.binary(min_size=1, max_size=40)
)


def damaged(content, damage):
    kind, place, what = damage
    start = min(len(content) - 1, place if isinstance(place, int) else int(place * len(content)))
    length = len(what) ** 2  # up to 1600 bytes
    if kind == "cut":
        return content[:start]
    if kind == "insert":
        return content[:start] + what + content[start:]
    if kind == "delete":
        return content[:start] + content[start + length :]
    if kind == "zero":
        return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]
    return content[:start] + bytes([content[start] ^ what[0]]) + content[start + 1 :]


@pytest.mark.slow
@given(form=st.sampled_from(list(forms())).filter(original), damages=st.lists(DAMAGES, min_size=1, max_size=3))
@examples(120, slow=True)
def test_a_damaged_file_is_restored_or_refused(form, damages):
    content = original(form)
    for damage in damages:
        content = damaged(content, damage) if content else content
    with folder() as place:
        name = f"a{form[0]}"
        (place / name).write_bytes(content)
        result, errors = restored(place, name)
        if result.returncode:
            assert len(errors) == 1, result.stderr
            return
        assert not errors
        assert np.isfinite(sound(place / "out" / name)).all()


# Any settings

NUMBERS = (
    st.integers().map(str)
    | st.integers(-10, 10).map(str)
    | st.floats().map(str)
    | st.sampled_from(
        ["", "none", "auto", "NaN", "1e999", "0x10", "1_000", "٣", "1,2,3", "1,2", "nan,inf,1", "--", "9" * 5000]
    )
    | st.text(max_size=5)
)


def numeric(task):
    return [
        setting.name
        for group in groups_of(task).values()
        for setting in fields(group)
        if kind_of(setting, group) in (int, float, tuple)
    ]


parser_of = cache(get_parser)


@given(
    task_and_values=st.sampled_from(TASKS).flatmap(
        lambda task: st.tuples(
            st.just(task), st.dictionaries(st.sampled_from(numeric(task)), NUMBERS, min_size=1, max_size=3)
        )
    )
)
@examples(200)
def test_any_number_is_accepted_or_refused_in_one_line(task_and_values):
    task, values = task_and_values
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            given_values = vars(parser_of(task).parse_args([f"--{name}={value}" for name, value in values.items()]))
        config = Config.of(task, **given_values)
    except SystemExit as refusal:
        assert refusal.code == 2
        message = errors.getvalue().removesuffix("\n")
    except BadInput as refusal:
        message = str(refusal)
    else:
        numbers = [value for name, value in config.effective().items() if name in values and isinstance(value, float)]
        assert all(map(math.isfinite, numbers))
        return
    assert message.isprintable()
    assert len(message) < 3000
    assert any(name in message for name in values)


# Blocks


@given(data=st.data(), rate=st.integers(1000, 4000), block=st.floats(0.1, 2), share=st.floats(0, 0.5))
@examples(100)
def test_blocks_cover_a_recording_and_overlap_add_reproduces_it(data, rate, block, share):
    frames = data.draw(st.integers(64, 20000))
    config = Config.of("denoise", "restore", block=block, overlap=share * block)
    blocks = split_blocks(frames, rate, config)
    waveform = torch.from_numpy(noise(frames, 2).T.copy()).float()
    assert blocks[0].start == 0
    assert blocks[-1].stop == frames
    assert all(part.stop - part.start <= round(block * rate) for part in blocks)
    pieces = list(overlap_add((part, waveform[:, part.start : part.stop]) for part in blocks))
    torch.testing.assert_close(torch.cat(pieces, dim=1), waveform, atol=1e-6, rtol=0)


# Signals


SOME_RATES = st.sampled_from([1000, 1234, 4000, 7350, 8000, 11025, 16000, 22050, 44100, 48000])


@given(rate=SOME_RATES, new_rate=SOME_RATES, frames=st.integers(1, 2000), data=st.data())
@examples(50)
def test_resampling_keeps_the_length_and_missing_samples(rate, new_rate, frames, data):
    waveform = torch.from_numpy(noise(frames)[:, 0]).float()
    start = data.draw(st.integers(0, frames - 1))
    stop = data.draw(st.integers(start, min(frames, start + 100)))
    waveform[start:stop] = torch.nan
    resampled = resample(waveform, rate, new_rate)
    assert len(resampled) == math.ceil(frames * new_rate / rate)
    assert len(resample(resampled, new_rate, rate)) >= frames
    reach = (REACH / min(rate, new_rate)) + 1 / new_rate
    seconds = torch.arange(len(resampled)) / new_rate
    near = (seconds >= start / rate - reach) & (seconds <= stop / rate + reach)
    assert resampled[~near].isfinite().all()
    if stop > start:
        inside = (seconds >= start / rate) & (seconds <= (stop - 1) / rate)
        assert resampled[inside].isnan().all()


@given(flags=st.lists(st.booleans(), max_size=50))
@examples(100)
def test_true_runs_agree_with_groupby(flags):
    expected, start = [], 0
    for value, group in groupby(flags):
        stop = start + len(list(group))
        expected += [(start, stop)] if value else []
        start = stop
    assert true_runs(torch.tensor(flags, dtype=torch.bool)) == expected


@given(data=st.data(), shortest=st.floats(1e-4, 0.05))
@examples(100)
def test_marking_missing_samples_changes_no_other_sample(data, shortest):
    rate, channels = 8000, 2
    waveform = torch.from_numpy(noise(1000, channels)).float()
    for start, length in data.draw(st.lists(st.tuples(st.integers(0, 999), st.integers(1, 300)), max_size=4)):
        waveform[start : start + length, data.draw(st.integers(0, channels - 1))] = data.draw(
            st.sampled_from([0.0, math.nan, math.inf])
        )
    marked = mark_missing(waveform, rate, shortest)
    kept = ~marked.isnan()
    assert torch.equal(marked[kept], waveform[kept])
    assert marked[kept].isfinite().all()


# Metrics

WAVEFORMS = st.tuples(st.integers(2, 200), st.integers(0, 1000)).map(
    lambda drawn: torch.from_numpy(noise(drawn[0], 2, drawn[1]).T.copy())
)
SCALES = st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3)


@given(pair=WAVEFORMS, scale=SCALES, other=SCALES)
@examples(50)
def test_si_snr_does_not_depend_on_scale(pair, scale, other):
    expected = si_snr(pair[0], pair[1])
    torch.testing.assert_close(si_snr(scale * pair[0], other * pair[1]), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(si_snr(pair[1], pair[0]), expected, rtol=1e-6, atol=1e-6)


@given(pair=WAVEFORMS, scale=SCALES)
@examples(50)
def test_psnr_is_symmetric_and_relative_to_its_range(pair, scale):
    torch.testing.assert_close(psnr(pair[0], pair[1]), psnr(pair[1], pair[0]))
    louder = psnr(scale * pair[0], scale * pair[1], data_range=abs(scale) * 2)
    torch.testing.assert_close(louder, psnr(pair[0], pair[1]))
    torch.testing.assert_close(psnr(scale * pair[0], scale * pair[1], None), psnr(pair[0], pair[1], None))


# Names


@given(name=st.text(), longest=st.integers(1, 100))
@examples(200)
def test_a_safe_name_is_a_plain_visible_file_name(name, longest):
    safe = safe_name(name, longest)
    assert safe == Path(safe).name
    assert safe.isprintable()
    assert not safe.startswith(".")
    assert 1 <= len(safe.encode()) <= max(longest, len("recording"))
    assert safe_name(safe, 100) == safe


@given(value=st.text(alphabet=st.characters()))
@examples(200)
def test_printable_text_is_one_line(value):
    assert printable(value).isprintable()
    assert printable(printable(value)) == printable(value)


@given(value=st.text(alphabet="a\n", min_size=1, max_size=50), times=st.integers(1, 10000))
@examples(50)
def test_printable_text_is_shortened_in_the_middle(value, times):
    line, full = printable(value * times), "".join("a" if c == "a" else "\\n" for c in value) * times
    assert len(line) <= LONGEST_SHOWN
    assert line[:400] == full[:400]
    assert line[-400:] == full[-400:]
