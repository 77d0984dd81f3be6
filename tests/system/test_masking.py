"""What may be shown of what a person typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.secret_shapes import SECRET, shapes
from toolchain.system import masking
from toolchain.system.masking import MASK, Readable, masked, shown


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    masking.remember([])


@pytest.mark.parametrize("word", shapes())
def test_no_shape_shows_its_password(word: str) -> None:
    assert SECRET not in shown(word)
    assert shown(shown(word)) == shown(word)
    masking.remember([word, f"--source={word}"])
    for text in (
        f"{word}: gives no video",
        f"{Path(word)!r} does not exist",
        f"unexpected extra argument ({word})",
        " ".join(repr(word).split()),
        f"a line\nand {Path(word)}/model.onnx",
    ):
        assert SECRET not in masked(text), text
        assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize("word", [word for word in shapes() if " S3cret" not in word])
def test_a_library_that_repeats_an_address_shows_no_password(word: str) -> None:
    """Without knowing what was typed: an address ends where a space stands."""
    for form in (word, str(Path(word))):
        assert SECRET not in masked(f"cannot open '{form.split(' ! ')[0]}': refused")


@pytest.mark.parametrize(
    ("word", "seen"),
    [
        ("rtsp://me:pw@cam.local:554/Streaming/Channels/101", "rtsp://cam.local:554/Streaming/Channels/101"),
        ("rtsp://me:p#w@10.0.0.5:554/h264Preview_01_main", "rtsp://10.0.0.5:554/h264Preview_01_main"),
        ("rtsp://me:p@w@host/x", "rtsp://host/x"),
        ("rtsp://me:p/w@host/x", "rtsp://host/x"),
        ("http://host:80/video.cgi?user=me&pwd=pw", f"http://host:80/video.cgi?{MASK}"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://127.0.0.1:8080/live", "http://127.0.0.1:8080/live"),
        ("rtsps://10.0.0.1:7441/aZ3kd93mXkd83LsP", f"rtsps://10.0.0.1:7441/{MASK}"),
        ("rtmp://a.example/live2/abcd-efgh-ijkl", f"rtmp://a.example/live2/{MASK}"),
        ("v4l2src device=/dev/video0 ! videoconvert ! appsink", "pipeline v4l2src"),
        ("file:///home/me/a b.mp4", "file:///home/me/a b.mp4"),
        ("rtsp://me:pw@ü.example/x", f"rtsp://{MASK}"),
    ],
)
def test_what_is_harmless_is_shown(word: str, seen: str) -> None:
    assert shown(word) == seen


@pytest.mark.parametrize(
    "text",
    [
        "camera 0: 640 x 480, 30 fps, MJPG",
        "/home/me/photos/cat.jpg does not exist",
        "C:\\photos\\cat.jpg does not exist",
        "C:/photos/cat.jpg does not exist",
        "runs/pets-mobilenet_v2-1: 12:30:01, top-1 0.897",
        "Connect a camera. Without one: --source FILE|URL|FOLDER.",
        "--source takes a camera's number or URL (rtsp://, http://).",
        "See https://example.org/docs/camera.html.",
        "Report it to me@example.org, or at 10:00.",
        "Data sets are looked for under /data (set EDGETL_DATA to change it).",
        "{'a': 1, 'b@c': 2}",
        "lr=0.1, seed=0, key=value",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert masked(text) == text


def test_what_exists_is_a_path_and_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a ! b=c pwd=1.mp4"
    Path(name).touch()
    masking.remember([name])
    assert masking.without_typed(f"{name}: 64 x 48") == f"{name}: 64 x 48"
    assert masking.command(["edgetl", "camera", "--source", name]).endswith(f"'{name}'")


def test_a_command_line_is_kept_without_its_passwords() -> None:
    words = ["edgetl", "finetune", "pets", "--outliers", "http://me:S3cret@host/x", "--seed", "3"]
    assert masking.command(words) == "edgetl finetune pets --outliers http://host/x --seed 3"


def test_secrets_are_masked_wherever_they_stand_and_readable_texts_are_not() -> None:
    masking.remember([], ["a-token-of-some-length", "short"])
    assert masked("it is a-token-of-some-length, in short") == f"it is {MASK}, in short"
    url = "http://127.0.0.1:8765/?token=a-token-of-some-length"
    assert masked(f"watch at {url}") == f"watch at http://127.0.0.1:8765/?{MASK}"
    assert masked(Readable(f"watch at {url}")) == f"watch at {url}"


def test_files_in_folders_that_look_like_schemes_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (":cat:", "photos:"):
        Path(folder).mkdir()
        for name in ("a.jpg", "a.jpg?x=1"):
            text = f"skipped: {folder}/{name}: no picture"
            assert masking.masked(text) == text
    Path("rtsp:").mkdir()  # a folder that an address once made gives nothing away
    for address in ("rtsp://me:S3cret@host/live", "rtsp:/me:S3cret@host/live", "rtsp:/host/S3cret%"):
        assert "S3cret" not in masking.masked(f"lost {address}")
    assert masking.masked("lost http:/" + "x" * 5000)


def test_a_word_of_any_length_is_looked_through_in_no_time() -> None:
    for word in ("x" * 200_000, "password" * 25_000, "a:" * 100_000, "é" * 70_000):
        assert masking.masked(f"label {word} here") == f"label {word[: masking.SHOWN]}… here"
