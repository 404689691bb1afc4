import os
from pathlib import Path

import pytest
from conftest import SAMPLES, refused_as, write_sound

from dawp.errors import BadInput
from dawp.io.audio import read
from dawp.io.sources import Recording, find_recordings, sounds_at


def listing(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture
def sounds(tmp_path):
    return [write_sound(tmp_path / name) for name in ("a.wav", "b c.wav", "d,e.wav")]


def test_one_file(sounds):
    assert find_recordings(sounds[0]) == [Recording(sounds[0])]


def test_the_bundled_clips_are_the_default():
    assert [r.name for r in find_recordings(None)] == ["guitar", "singing", "speech"]
    assert all(r.path.parent == SAMPLES for r in find_recordings(None))


def test_a_folder_is_searched_recursively_for_sound_files(tmp_path):
    expected = [write_sound(tmp_path / name) for name in ("B.WAV", "a.flac", "deep/er/c.ogg")]
    for other in ("notes.txt", "cover.png", "deep/list.csv", ".hidden.wav", ".git/x.wav"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"x")
    assert [r.path for r in find_recordings(tmp_path)] == expected


def test_the_results_of_earlier_runs_are_not_recordings(tmp_path, monkeypatch):
    write_sound(tmp_path / "a.wav")
    run = tmp_path / "denoise" / "x"
    write_sound(run / "000_a" / "clean.wav")
    assert len(find_recordings(tmp_path)) == 2
    (run / "config.json").write_text('{"task": "denoise", "identity": {"task": "denoise", "recordings": []}}')
    monkeypatch.chdir(tmp_path)
    assert [r.name for r in find_recordings(Path())] == ["a"]
    assert [r.name for r in find_recordings(run)] == ["clean"]  # unless the run folder is the source


def test_a_line_separator_of_unicode_is_part_of_a_name(tmp_path):
    odd = write_sound(tmp_path / "a\u2028b.wav")
    assert find_recordings(listing(tmp_path, "a\u2028b.wav\n")) == [Recording(odd)]


def test_links_to_folders_are_not_followed(tmp_path):
    write_sound(tmp_path / "a.wav")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(find_recordings(tmp_path)) == 1


def test_all_variants_of_lines_in_a_list(tmp_path, sounds):
    a, b, comma = sounds
    lines = [
        "\ufeff# my recordings",
        "",
        "   ",
        "a.wav",
        "b c.wav",
        f"  {a}  ",
        f"{a},",
        "a.wav , b c.wav",
        "d,e.wav",
        f'"{comma}","{b}"',
    ]
    recordings = find_recordings(listing(tmp_path, "\r\n".join(lines)))
    assert recordings == [
        Recording(a),
        Recording(b),
        Recording(a),
        Recording(a),
        Recording(a, b),
        Recording(comma),
        Recording(comma, b),
    ]


def test_paths_are_relative_to_the_list_or_to_the_working_folder(tmp_path, monkeypatch):
    near = write_sound(tmp_path / "lists" / "x.wav")
    write_sound(tmp_path / "x.wav")
    far = write_sound(tmp_path / "y.wav")
    monkeypatch.chdir(tmp_path)
    recordings = find_recordings(listing(tmp_path / "lists", "x.wav\ny.wav"))
    assert recordings[0].path == near
    assert recordings[1].path.resolve() == far


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.wav\nmissing.wav\n", r"list.txt line 2: .*missing.wav"),
        ("a.wav,missing.wav", r"line 1: .*missing.wav"),
        ("a.wav,a.wav,a.wav", r"line 1: .*a\.wav,a\.wav,a\.wav"),
        (",a.wav", r"line 1: .*,a.wav"),
        ("\n# nothing\n", r"list.txt: .*empty"),
        ("", r"list.txt: .*empty"),
        ("a.wav\0", r"list.txt: "),
        ("x" * 5000, r"line 1: .*x{80}"),
        ("x" * 200_000, r"line 1: .*x{80}\.\.\.$"),
    ],
)
def test_bad_lists(tmp_path, sounds, text, message):
    with pytest.raises(BadInput, match=message):
        find_recordings(listing(tmp_path, text))


def test_binary_files_are_not_lists(tmp_path):
    (tmp_path / "data.bin").write_bytes(bytes(range(256)))
    with refused_as("invalid_list", r"data\.bin: "):
        find_recordings(tmp_path / "data.bin")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a.wav\nmüller.wav\n".encode("utf-16"), ["UTF-8", "UTF-16"]),
        ("\ufeffa.wav\n".encode("utf-16-be"), ["UTF-8", "UTF-16"]),
        ("a.wav\n".encode("utf-16-le"), ["UTF-8"]),
        ("a.wav\nmüller.wav\n".encode("latin-1"), ["list.txt line 2", "UTF-8", "0xfc"]),
    ],
)
def test_a_list_in_another_encoding_is_refused_and_the_message_names_both(tmp_path, sounds, content, words):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(BadInput) as refusal:
        find_recordings(tmp_path / "list.txt")
    assert all(word in str(refusal.value) for word in words)


def test_an_unsupported_format_is_refused_with_advice(tmp_path):
    path = tmp_path / "tape.M4A"
    path.write_bytes(b"x")
    for find in (find_recordings, sounds_at):
        with refused_as("unreadable_input", r"tape\.M4A: .*\.m4a "):
            find(path)


def test_an_unsupported_format_in_a_list_is_refused_with_advice(tmp_path):
    (tmp_path / "tape.m4a").write_bytes(b"\0\0\0\x1cftypM4A " + bytes(100))
    (tmp_path / "list.txt").write_text("tape.m4a\n")
    (recording,) = find_recordings(tmp_path / "list.txt")
    with refused_as("unreadable_input", r"tape\.m4a: .*\.m4a "):
        read(recording.paths[0], 16000)


def test_missing_sources(tmp_path):
    with refused_as("not_found", "none: "):
        find_recordings(tmp_path / "none")
    with refused_as("not_found", tmp_path.name):
        find_recordings(tmp_path)


def test_devices_and_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with refused_as("not_found", r"pipe\.wav: "):
        find_recordings(tmp_path / "pipe.wav")
    with refused_as("not_found", r"line 1: .*pipe\.wav"):
        find_recordings(listing(tmp_path, "pipe.wav"))
    with refused_as("not_found", tmp_path.name):
        find_recordings(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("take 1.wav", "take_1"),
        ("<script>.wav", "script"),
        ("müller.wav", "müller"),
        ("...wav", "recording"),
        ("a\nb.wav", "a_b"),
        ("x" * 200 + ".wav", "x" * 40),
    ],
)
def test_names_are_valid_folder_names(tmp_path, name, expected):
    assert Recording(tmp_path / name).name == expected


def test_control_characters_in_names_are_escaped(tmp_path):
    with pytest.raises(BadInput) as refusal:
        find_recordings(listing(tmp_path, "evil\x1b[2J\x07.wav"))
    assert "\x1b" not in str(refusal.value)
    assert "\\x1b" in str(refusal.value)
