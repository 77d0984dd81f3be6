"""`--region`: parts of the picture with an answer each, in one batch and everywhere where answers go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.artifacts import tiny_artifact, tiny_card, tiny_model
from tests.camera.camera_support import Collect
from tests.clips import BGR, colour_of, plain, read_clip
from tests.datasets.datasets_support import Remembering
from tests.receivers import MOSQUITTO, Broker, Hook, Subscriber
from tests.web_support import BROWSER, Chromium, ask, view, wait_until
from toolchain.artifact import write_artifact
from toolchain.camera.answering import Answered, RegionAnswer
from toolchain.camera.engine import Engine
from toolchain.camera.frames import BgrImage, Frame
from toolchain.camera.loop import Control
from toolchain.camera.loop import run as run_loop
from toolchain.camera.regions import MAX_REGIONS, Region, parse_regions
from toolchain.camera.session import watch
from toolchain.camera.sinks.collect import LINES, CollectOptions, parse_when
from toolchain.camera.sinks.mqtt import parse_url
from toolchain.camera.sinks.recorder import RecordOptions
from toolchain.camera.sinks.webhook import WebhookOptions
from toolchain.camera.sources.capture import Capture
from toolchain.classifier import Classifier, Prediction, load
from toolchain.cli import run
from toolchain.errors import BadInputError
from toolchain.export.raw_frame import with_raw_frame
from toolchain.runtimes import Answer

LEFT, RIGHT = "left=0%,0%,50%,100%", "right=320,0,320,480"


def _halves(left: str, right: str) -> BgrImage:
    return np.concatenate([plain(left, 480, 320), plain(right, 480, 320)], axis=1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a network, and `in` with three pictures: the left half changes once, the right one twice."""
    tiny_artifact(tmp_path / "tiny.onnx")
    (tmp_path / "in").mkdir()
    for number, (left, right) in enumerate((("red", "green"), ("red", "blue"), ("green", "red"))):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), _halves(left, right))
    return tmp_path


@pytest.mark.parametrize(
    ("texts", "boxes"),
    [
        (["10,20,30,40"], {"1": (10, 20, 40, 60)}),
        (["10%,20%,30%,40%", "porch=0,0,1,1"], {"1": (20, 20, 80, 60), "porch": (0, 0, 1, 1)}),
        (["cat flap-2.b=150,50,500,500"], {"cat flap-2.b": (150, 50, 200, 100)}),
        (["0.1%,0.1%,0.1%,0.1%"], {"1": (0, 0, 1, 1)}),
        (["33.3%,0%,66.7%,100%"], {"1": (67, 0, 200, 100)}),
    ],
)
def test_places(texts: list[str], boxes: dict[str, tuple[int, ...]]) -> None:
    assert {region.name: region.box(100, 200) for region in parse_regions(texts)} == boxes


@pytest.mark.parametrize(
    "text",
    ["", "x", "1,2,3", "1,2,3,4,5", "1,2,3,4%", "a,b,c,d", "-1,0,5,5", "0,0,0,5", "0,0,5,-1",
     "nan,0,1,1", "inf,0,1,1", "0,0,1e999,5", "60%,0%,50%,50%", "=1,2,3,4", "a/b=1,2,3,4",
      "a+=1,2,3,4", "#=1,2,3,4", "_x=1,2,3,4",
     "Availability=1,2,3,4", f"{'n' * 41}=1,2,3,4", "a\nb=1,2,3,4"],
)  # fmt: skip
def test_what_is_no_region(text: str) -> None:
    with pytest.raises(BadInputError) as raised:
        parse_regions([text])
    assert raised.value.hint


def test_regions_that_do_not_go_together() -> None:
    with pytest.raises(BadInputError, match="two regions are called 'a'"):
        parse_regions(["a=1,2,3,4", "a=5,6,7,8"])
    with pytest.raises(BadInputError, match="at most"):
        parse_regions(["1,2,3,4"] * (MAX_REGIONS + 1))
    with pytest.raises(BadInputError, match="outside of frames of 64 x 48"):
        Region("a", 64, 0, 5, 5, percent=False).box(48, 64)


class Counting:
    """A runtime that remembers the shapes that it was asked for."""

    def __init__(self, classifier: Classifier) -> None:
        self._runtime = classifier.runtime
        self.device, self.threads = self._runtime.device, self._runtime.threads
        self.provider_effective = self._runtime.provider_effective
        self.shapes: list[tuple[int, ...]] = []

    def infer(self, images: np.ndarray) -> Answer:
        self.shapes.append(images.shape)
        return self._runtime.infer(images)


class Pictures:
    """A source of given pictures, a second apart."""

    name = given = "pictures"
    live = resting = False
    patience_s, fps, remedy = 0.0, 1.0, "Look."

    def __init__(self, pictures: list[BgrImage]) -> None:
        self._frames: Iterator[Frame] = iter(
            [Frame(number, bgr, 100.0 + number, float(number)) for number, bgr in enumerate(pictures)]
        )

    def read(self) -> Frame | None:
        return next(self._frames, None)

    def stop(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("mirrored", [False, True])
def test_all_are_answered_in_one_batch_as_each_would_be_alone(tmp_path: Path, mirrored: bool) -> None:
    loaded = load(tiny_artifact(tmp_path / "tiny.onnx"))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(3)]
    runtime = Counting(loaded)
    classifier, sink = Classifier(loaded.card, runtime), Collect()
    regions = parse_regions(["a=0,0,20,20", "b=25%,25%,75%,75%", "c=1,2,3,40"])
    engine = Engine(classifier, mirror_average=mirrored)
    runtime.shapes.clear()
    control = Control()
    control.regions = regions
    summary = run_loop(engine, Capture(Pictures(pictures), every=True), [sink], control=control)
    assert summary.frames_answered == 3
    assert runtime.shapes == [(3, 32, 32, 3)] * 3
    [first, *_] = sink.answers
    alone = [loaded.predict(np.ascontiguousarray(part.frame.bgr[:, :, ::-1])) for part in first.each()]
    assert [part.region for part in first.each()] == ["a", "b", "c"]
    assert [part.prediction.label for part in first.each()] == [one.label for one in alone]
    for part, one in zip(first.each(), alone, strict=True):
        assert part.prediction.logits == pytest.approx(one.logits, abs=1e-4)
    assert first.prediction == first.regions[0].prediction


def test_each_region_changes_by_itself(place: Path) -> None:
    seen: list[tuple[list[str | None], list[str]]] = []

    def act(answered: Answered) -> None:
        parts = list(answered.each())
        seen.append(([part.prediction.answer for part in parts], [colour_of(part.frame.bgr) for part in parts]))

    report = watch(place / "tiny.onnx", place / "in", on_answer=act, regions=[LEFT, RIGHT], every_frame=True)
    wanted = [["red", "green"], ["red", "blue"], ["green", "red"]]
    assert seen == [(colours, colours) for colours in wanted]
    assert report.summary.changes == 3


def test_a_file_that_resizes_by_itself_answers_one_region(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(
        str(tmp_path / "in" / "0.png"), np.concatenate([plain("red", 32, 32), plain("green", 32, 32)], axis=1)
    )
    card = tiny_card(input="frame")
    write_artifact(with_raw_frame(tiny_model(), card.preprocess), card, tmp_path / "tiny.onnx")
    seen: list[str | None] = []

    def act(answered: Answered) -> None:
        seen.append(answered.regions[0].prediction.answer)

    place = tmp_path / "tiny.onnx", tmp_path / "in"
    watch(*place, on_answer=act, regions=["32,0,32,32"], every_frame=True)
    assert seen == ["green"]
    with pytest.raises(BadInputError, match="answers one region only"):
        watch(*place, regions=["0,0,32,32", "32,0,32,32"], every_frame=True)


def test_regions_may_be_changed_while_it_runs(tmp_path: Path) -> None:
    loaded, control = load(tiny_artifact(tmp_path / "tiny.onnx")), Control()
    both = parse_regions([LEFT, RIGHT])
    wanted = [both, (), both[1:], both]

    def change(answered: Answered) -> None:
        control.regions = wanted[min(answered.frame.number + 1, 3)]

    control.regions = wanted[0]
    sink = Collect(change)
    pictures = [_halves("red", "green")] * 2 + [_halves("red", "blue")] * 2
    summary = run_loop(Engine(loaded), Capture(Pictures(pictures), every=True), [sink], control=control)
    found = [[(one.name, one.prediction.label) for one in answered.regions] for answered in sink.answers]
    left, green, blue = ("left", "red"), ("right", "green"), ("right", "blue")
    assert found == [[left, green], [], [blue], [left, blue]]
    assert summary.changes == 0, "a region that comes anew begins with nothing"


def test_frames_are_turned_first(place: Path) -> None:
    seen: list[list[str | None]] = []

    def act(answered: Answered) -> None:
        seen.append([one.prediction.answer for one in answered.regions])

    watch(place / "tiny.onnx", place / "in", on_answer=act, regions=[LEFT, RIGHT], every_frame=True, mirror=True)
    assert seen == [["green", "red"], ["blue", "red"], ["red", "green"]]


def test_lines_log_and_commands_tell_them_apart(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["camera", str(place / "tiny.onnx"), "--source", str(place / "in"), "--as-fast-as-possible",
             "--region", LEFT, "--region", RIGHT]  # fmt: skip
    log, told = place / "log.jsonl", place / "told"
    command = f'echo "$EDGETL_REGION $EDGETL_LABEL" >> {told}'
    assert run([*words, "--headless", "--log", str(log), "--on-change", command]) == 0
    lines = [
        line.split("  ")[-1] for line in capsys.readouterr().out.splitlines() if ": " in line and " s  " in line
    ]
    wanted = ["left: red", "right: green", "right: blue", "left: green", "right: red"]
    assert lines == wanted
    assert told.read_text().splitlines() == [line.replace(":", "") for line in wanted]
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [{name: one["answer"] for name, one in line["regions"].items()} for line in logged] == [
        {"left": "red", "right": "green"},
        {"left": "red", "right": "blue"},
        {"left": "green", "right": "red"},
    ]
    assert [line["answer"] for line in logged] == ["red", "red", "green"], "what was there before is the first's"
    assert set(logged[0]["regions"]["left"]) == {"answer", "label", "probability", "rejected"}
    assert run([*words, "--json", "--region", "far=900,0,10,10"]) == 2
    assert "outside of frames of 640 x 480" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_each_part_is_collected(place: Path) -> None:
    kept = place / "kept"
    options = CollectOptions(kept, parse_when(["changed"]))
    watch(place / "tiny.onnx", place / "in", sinks=[options], regions=[LEFT, RIGHT], every_frame=True)
    lines = [json.loads(line) for line in (kept / LINES).read_text().splitlines()]
    assert [(line["region"], line["label"]) for line in lines] == [
        ("left", "red"),
        ("right", "green"),
        ("right", "blue"),
        ("left", "green"),
        ("right", "red"),
    ]
    for line in lines:
        picture = np.asarray(cv2.imread(str(kept / line["file"])), np.uint8)
        assert picture.shape == (480, 320, 3)
        assert colour_of(picture) == line["label"]


def test_a_webhook_hears_of_each(place: Path) -> None:
    with Hook([500]) as hook:
        report = watch(
            place / "tiny.onnx",
            place / "in",
            sinks=[WebhookOptions(hook.url)],
            regions=[LEFT, RIGHT],
            every_frame=True,
        )
    assert not report.unwritten
    last = {one["region"]: one["answer"] for one in hook.got}
    assert last == {"left": "green", "right": "red"}


@pytest.mark.skipif(MOSQUITTO is None, reason="needs a broker: apt install mosquitto")
def test_a_broker_has_a_topic_for_each(place: Path) -> None:
    with Broker(place) as broker:
        watch(
            place / "tiny.onnx",
            place / "in",
            sinks=[parse_url(f"mqtt://127.0.0.1:{broker.port}/home/hall")],
            regions=[LEFT, RIGHT],
            every_frame=True,
        )
        with Subscriber(broker.port) as later:
            wait_until(lambda: len(later.retained) == 5)
            held = {topic: json.loads(text) for topic, text in later.retained.items() if "{" in text}
    assert held["home/hall/left"]["answer"] == "green"
    assert held["home/hall/right"]["answer"] == "red"
    found = held["homeassistant/sensor/edgetl_home_hall_left/config"]
    assert (found["name"], found["state_topic"]) == ("left", "home/hall/left")
    assert found["device"]["identifiers"] == ["edgetl_home_hall"]


def _two(bgr: BgrImage) -> Answered:
    def prediction(label: str, rejected: bool) -> Prediction:
        return Prediction(label, 0.75, rejected, ((label, 0.75), ("fish", 0.2)), np.zeros(3, np.float32))

    first = RegionAnswer("door", (160, 120, 480, 240), prediction("red_cat", False), False)
    second = RegionAnswer("cup", (0, 300, 100, 480), prediction("dog", True), False)
    return Answered(Frame(0, bgr, 100.0, 0.0), first.prediction, 31.4, 5.25, 29.9, regions=(first, second))


def test_recordings_show_their_places(place: Path) -> None:
    regions = ["door=25%,25%,50%,50%"]
    options = RecordOptions(place / "out.mp4")
    watch(place / "tiny.onnx", place / "in", sinks=[options], regions=regions, every_frame=True)
    _, [first, *_] = read_clip(place / "out.mp4")
    edges = [(300, 160), (300, 479), (359, 250)]
    assert all(first[y, x].min() > 110 for y, x in edges), [first[y, x] for y, x in edges]
    assert colour_of(first[:, :320]) == "red"


def test_figures_and_answers_of_the_page_have_them() -> None:
    with view() as shown:
        shown.show(_two(np.full((480, 640, 3), BGR["blue"], np.uint8)))
        found = json.loads(ask(shown, "/answer")[1])["answer"]
        figures = ask(shown, "/metrics")[1].decode()
    assert found["regions"] == [
        {
            "name": "door",
            "place": [25.0, 25.0, 50.0, 25.0],
            "label": "red cat",
            "probability": 0.75,
            "rejected": False,
        },
        {"name": "cup", "place": [0.0, 62.5, 15.62, 37.5], "label": "dog", "probability": 0.75, "rejected": True},
    ]
    assert 'edgetl_answer{region="door",label="red_cat"} 1' in figures
    assert 'edgetl_answers_total{region="cup",label=""} 1' in figures
    assert 'edgetl_probability{region="door"} 0.75' in figures
    assert "edgetl_answer_changes_total 0" in figures


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1100, 390])
def test_the_page_lays_them_over_the_picture(tmp_path: Path, width: int) -> None:
    browser = Chromium(tmp_path)
    try:
        with view(reporter=Remembering()) as shown:
            browser.open(shown.url, width=width)
            shown.show(_two(np.full((480, 640, 3), BGR["blue"], np.uint8)))
            browser.until("document.getElementById('picture')?.hidden === false")
            browser.until("document.querySelectorAll('#regions div').length === 2")
            assert browser.value("document.getElementById('label').textContent") == "door: red cat, cup: not sure"
            inside = browser.value(
                "(() => { const [p, d] = ['#picture', '#regions div'].map((one) => document.querySelector(one))"
                ".map((one) => one.getBoundingClientRect()); return [(d.x - p.x) / p.width, (d.y - p.y) / p.height,"
                "d.width / p.width, d.height / p.height]; })()"
            )
            assert inside == pytest.approx([0.25, 0.25, 0.5, 0.25], abs=0.02)
            browser.screenshot(tmp_path / f"regions-{width}.png")
            box = browser.value(
                "(one => [one.x, one.y, one.width, one.height])"
                "(document.getElementById('picture').getBoundingClientRect())"
            )
            for kind, across, down in (
                ("mousePressed", 0.5, 0.75),
                ("mouseMoved", 0.3, 0.4),
                ("mouseReleased", 0.25, 0.5),
            ):
                at = {"x": box[0] + across * box[2], "y": box[1] + down * box[3]}
                browser.tell("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **at)
            told = browser.until("document.querySelector('#option:not([hidden]) code')?.textContent")
            numbers = [float(one.rstrip("%")) for one in told.removeprefix("--region ").split(",")]
            assert numbers == pytest.approx([25, 50, 25, 25], abs=1)
            parse_regions([told.removeprefix("--region ")])
    finally:
        browser.close()
