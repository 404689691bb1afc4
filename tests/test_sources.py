import os
from pathlib import Path

import pytest
from conftest import SAMPLES, write_sound

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


def test_a_folder_is_searched_in_depth_for_sound_files_only(tmp_path):
    wanted = [write_sound(tmp_path / name) for name in ("B.WAV", "a.flac", "deep/er/c.ogg")]
    for other in ("notes.txt", "cover.png", "deep/list.csv", ".hidden.wav", ".git/x.wav"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"x")
    assert [r.path for r in find_recordings(tmp_path)] == wanted


def test_the_results_of_earlier_runs_are_no_recordings(tmp_path, monkeypatch):
    write_sound(tmp_path / "a.wav")
    run = tmp_path / "denoise" / "x"
    write_sound(run / "000_a" / "clean.wav")
    assert len(find_recordings(tmp_path)) == 2
    (run / "config.json").write_text('{"task": "denoise", "identity": {"task": "denoise", "recordings": []}}')
    monkeypatch.chdir(tmp_path)
    assert [r.name for r in find_recordings(Path())] == ["a"]
    assert [r.name for r in find_recordings(run)] == ["clean"]  # asked for by name


def test_a_line_separator_of_unicode_is_part_of_a_name(tmp_path):
    odd = write_sound(tmp_path / "a\u2028b.wav")
    assert find_recordings(listing(tmp_path, "a\u2028b.wav\n")) == [Recording(odd)]


def test_a_folder_with_a_link_to_itself_ends(tmp_path):
    write_sound(tmp_path / "a.wav")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(find_recordings(tmp_path)) == 1


def test_a_list_with_all_that_people_write(tmp_path, sounds):
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


def test_relative_paths_start_at_the_list_then_at_the_working_folder(tmp_path, monkeypatch):
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
        ("a.wav\nmissing.wav\n", r"list.txt line 2: no such file: missing.wav"),
        ("a.wav,missing.wav", r"line 1: no such file: missing.wav"),
        ("a.wav,a.wav,a.wav", r"line 1: expected one path or a clean,corrupted pair"),
        (",a.wav", r"line 1: expected one path"),
        ("\n# nothing\n", r"names no recordings"),
        ("", r"names no recordings"),
        ("a.wav\0", r"neither a sound file .* nor a text list"),
        ("x" * 5000, r"line 1: no such file"),
        ("x" * 200_000, r"line 1: expected one path or a clean,corrupted pair"),
    ],
)
def test_bad_lists(tmp_path, sounds, text, message):
    with pytest.raises(BadInput, match=message):
        find_recordings(listing(tmp_path, text))


def test_binary_files_are_no_lists(tmp_path):
    (tmp_path / "data.bin").write_bytes(bytes(range(256)))
    with pytest.raises(BadInput, match="neither a sound file"):
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
def test_a_list_in_another_encoding_is_refused_with_the_one_that_is_wanted(tmp_path, sounds, content, words):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(BadInput) as refusal:
        find_recordings(tmp_path / "list.txt")
    assert all(word in str(refusal.value) for word in words)


def test_a_file_of_a_format_that_is_not_read_is_refused_with_a_way_out(tmp_path):
    path = tmp_path / "tape.M4A"
    path.write_bytes(b"x")
    for find in (find_recordings, sounds_at):
        with pytest.raises(BadInput, match=r"tape\.M4A: .*\.m4a .*ffmpeg"):
            find(path)


def test_a_file_of_such_a_format_in_a_list_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "tape.m4a").write_bytes(b"\0\0\0\x1cftypM4A " + bytes(100))
    (tmp_path / "list.txt").write_text("tape.m4a\n")
    (recording,) = find_recordings(tmp_path / "list.txt")
    with pytest.raises(BadInput, match=r"tape\.m4a: .*\.m4a .*ffmpeg"):
        read(recording.paths[0], 16000)


def test_what_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="no such file or folder"):
        find_recordings(tmp_path / "none")
    with pytest.raises(BadInput, match="no sound files in this folder"):
        find_recordings(tmp_path)


def test_devices_and_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(BadInput, match="neither a file nor a folder"):
        find_recordings(tmp_path / "pipe.wav")
    with pytest.raises(BadInput, match=r"no such file: pipe\.wav"):
        find_recordings(listing(tmp_path, "pipe.wav"))
    with pytest.raises(BadInput, match="no sound files"):
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
def test_names_are_fit_for_folders(tmp_path, name, expected):
    assert Recording(tmp_path / name).name == expected


def test_hostile_names_are_shown_on_one_line(tmp_path):
    with pytest.raises(BadInput) as refusal:
        find_recordings(listing(tmp_path, "evil\x1b[2J\x07.wav"))
    assert "\x1b" not in str(refusal.value)
    assert "\\x1b" in str(refusal.value)
