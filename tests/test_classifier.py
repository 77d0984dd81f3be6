"""`toolchain.load` and what a program gets from it."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import toolchain
from tests.artifacts import tiny_artifact
from tests.clips import plain
from toolchain.artifact.card import QuantizationRecipe, Reject
from toolchain.classifier import percent
from toolchain.errors import ArtifactError, ArtifactWarning, BadInputError, MissingError, UnreadableImageError
from toolchain.evaluation.metrics import softmax
from toolchain.runtimes import Answer, machine, open_runtime
from toolchain.runtimes.devices import Device

RED = plain("red", 40, 60)[..., ::-1].copy()
DEVICES = ["ort:cpu", "openvino:CPU"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    tiny_artifact(where)
    return where


@pytest.mark.parametrize("device", DEVICES)
def test_colours_are_named_on_every_runtime(path: Path, device: str) -> None:
    classifier = toolchain.load(path, device)
    for colour in ("red", "green", "blue"):
        prediction = classifier.predict(plain(colour)[..., ::-1].copy())
        assert prediction.label == colour
        assert prediction.probability > 0.9
        assert not prediction.rejected


@pytest.mark.parametrize("device", DEVICES)
def test_a_picture_and_its_mirror_image_are_averaged(path: Path, device: str) -> None:
    """The mean of the logits, which is the same for both."""
    half = np.concatenate([RED, plain("blue", 40, 60)[..., ::-1] // 2], axis=1)
    turned = np.ascontiguousarray(half[:, ::-1])
    single = toolchain.load(path, device)
    both = toolchain.load(path, device, mirror_average=True)
    mean = (single.predict(half).logits + single.predict(turned).logits) / 2
    answers = both.predict_batch([half, turned])
    for answer in answers:
        np.testing.assert_allclose(answer.logits, mean, rtol=1e-5, atol=1e-6)
        assert answer.probability == pytest.approx(float(softmax(mean, both.card.temperature).max()), rel=1e-5)


def test_path_bytes_and_frame_are_the_same_photograph(path: Path, tmp_path: Path) -> None:
    photograph = tmp_path / "photo.png"
    cv2.imwrite(str(photograph), RED[..., ::-1])
    classifier = toolchain.load(path)
    answers = [classifier.predict(source) for source in (photograph, str(photograph), photograph.read_bytes(), RED)]
    assert {answer.probability for answer in answers} == {answers[0].probability}


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_answers_as_one_by_one(path: Path, device: str) -> None:
    classifier = toolchain.load(path, device)
    frames = [plain(colour)[..., ::-1].copy() for colour in ("blue", "red", "green", "red", "blue")]
    together = classifier.predict_batch(frames)
    for frame, answer in zip(frames, together, strict=True):
        alone = classifier.predict(frame)
        assert alone.label == answer.label
        np.testing.assert_allclose(alone.logits, answer.logits, rtol=1e-5)
    assert classifier.predict_batch([]) == []


def test_probabilities_use_the_temperature_and_top_is_sorted(tmp_path: Path) -> None:
    labels = [f"hue {number}" for number in range(7)]
    tiny_artifact(tmp_path / "seven.onnx", labels, temperature=2.5)
    prediction = toolchain.load(tmp_path / "seven.onnx").predict(RED, top=7)
    exponentials = np.exp(prediction.logits.astype(float) / 2.5)
    probabilities = dict(zip(labels, exponentials / exponentials.sum(), strict=True))
    assert prediction.label == "hue 0"
    ranked = [probability for _, probability in prediction.top]
    assert ranked == sorted(ranked, reverse=True)
    assert dict(prediction.top) == pytest.approx(probabilities, rel=1e-4)
    assert len(toolchain.load(tmp_path / "seven.onnx").predict(RED, top=3).top) == 3


def test_rounding_claims_no_certainty() -> None:
    shown = {0.0: "<1 %", 0.004: "<1 %", 0.006: "1 %", 0.5: "50 %", 0.994: "99 %", 0.996: ">99 %", 1.0: ">99 %"}
    assert {probability: percent(probability) for probability in shown} == shown


def test_rejected_below_the_cards_threshold(tmp_path: Path) -> None:
    tiny_artifact(tmp_path / "unsure.onnx", scale=0.001, reject=Reject("max_probability", 0.5))
    prediction = toolchain.load(tmp_path / "unsure.onnx").predict(RED)
    assert prediction.rejected
    assert prediction.answer is None
    assert prediction.label == "red", "what it would have been is told all the same"


def test_wrong_pictures_and_wrong_top_are_refused(path: Path, tmp_path: Path) -> None:
    classifier = toolchain.load(path)
    for source in (tmp_path / "nope.jpg", b"no picture", RED.astype(np.float32)):
        with pytest.raises(UnreadableImageError):
            classifier.predict(source)
    with pytest.raises(BadInputError):
        classifier.predict(RED, top=0)


def test_wrong_files_and_devices_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        toolchain.load(tmp_path / "nope.onnx")
    with pytest.raises(BadInputError, match="unknown device"):
        toolchain.load(path, "abacus:0")


def test_int8_is_refused_where_it_was_not_proven(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "model.int8.onnx", precision="int8", runtimes=("openvino:CPU",))
    with pytest.raises(BadInputError, match="proven on openvino:CPU"):
        toolchain.load(artifact, "ort:cpu")
    assert toolchain.load(artifact, "openvino:CPU").predict(RED).label == "red"
    assert open_runtime(artifact, "ort:cpu", unproven=True).infer(np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("device", DEVICES)
def test_predictions_are_compared_by_value(path: Path, device: str) -> None:
    classifier = toolchain.load(path, device)
    first, again = classifier.predict(RED), classifier.predict(RED)
    other = classifier.predict(RED, top=2)
    assert first == again
    assert first is not again
    assert hash(first) == hash(again)
    assert first in [other, again]
    assert first not in [other, "red", None]
    assert len({first, again, other}) == 2


def test_what_is_not_a_number_is_equal_to_itself_and_noughts_are_noughts() -> None:
    def prediction(probability: float, logit: float) -> toolchain.Prediction:
        logits = np.array([logit, 1], np.float32)
        return toolchain.Prediction("a", probability, False, (("a", probability),), logits)

    nan = float("nan")
    assert prediction(nan, nan) == prediction(float("nan"), nan)
    assert hash(prediction(nan, nan)) == hash(prediction(float("nan"), nan))
    assert prediction(0.5, 0.0) == prediction(0.5, -0.0)
    assert hash(prediction(0.5, 0.0)) == hash(prediction(0.5, -0.0))
    assert prediction(nan, 0) != prediction(0.5, 0)


@pytest.mark.parametrize("device", DEVICES)
def test_an_array_of_pictures_is_a_batch(path: Path, device: str) -> None:
    classifier = toolchain.load(path, device)
    frames = [plain(colour)[..., ::-1].copy() for colour in ("blue", "red", "green")]
    assert [one.label for one in classifier.predict_batch(np.stack(frames))] == ["blue", "red", "green"]
    assert len(classifier.predict_batch(np.stack(frames)[..., 0])) == 3, "grey ones"
    assert len(classifier.predict_batch(frame for frame in frames)) == 3  # type: ignore[arg-type]
    assert classifier.predict_batch(np.empty((0, 32, 32, 3), np.uint8)) == []


@pytest.mark.parametrize("single", [RED, RED[..., 0], "cat.jpg", Path("cat.jpg"), b"bytes"], ids=str)
def test_one_picture_is_no_batch(path: Path, single: object) -> None:
    with pytest.raises(BadInputError, match="several photographs"):
        toolchain.load(path).predict_batch(single)  # type: ignore[arg-type]


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_classifier_is_not_sent_to_another_process_and_says_what_is(path: Path, send: object) -> None:
    classifier = toolchain.load(path)
    with pytest.raises(TypeError, match="send the model file's path and load it there"):
        send(classifier)  # type: ignore[operator]
    assert pickle.loads(pickle.dumps(classifier.predict(RED))) == classifier.predict(RED)


@pytest.mark.parametrize("top", [0, -1, "2", 1.5, True])
def test_numbers_of_classes_that_are_none(path: Path, top: object) -> None:
    with pytest.raises(BadInputError, match="top must be a whole number"):
        toolchain.load(path).predict(RED, top)  # type: ignore[arg-type]


def test_run_folder_is_opened_as_its_file(path: Path) -> None:
    tiny_artifact(path.parent / "run" / "model.onnx")
    assert toolchain.load(path.parent / "run").predict(RED).label == "red"
    assert toolchain.load(str(path.parent / "run")).predict(RED).label == "red"


def test_bgr_frames_are_understood_when_asked(path: Path, tmp_path: Path) -> None:
    blue = plain("blue", 40, 60)  # as OpenCV has it
    classifier = toolchain.load(path)
    assert classifier.predict(blue).label == "red", "frames are RGB unless something else is said"
    assert classifier.predict(blue, colour="BGR").label == "blue"
    assert [answer.label for answer in classifier.predict_batch([blue, blue], colour="BGR")] == ["blue", "blue"]
    of_opencv = toolchain.load(path, colour="BGR")
    assert of_opencv.predict(blue).label == "blue"
    assert of_opencv.predict(RED, colour="RGB").label == "red"
    cv2.imwrite(str(tmp_path / "blue.png"), blue)
    assert of_opencv.predict(tmp_path / "blue.png").label == "blue", "files know their colours"
    for wrong in (lambda: classifier.predict(blue, colour="HSV"), lambda: toolchain.load(path, colour="bgr")):
        with pytest.raises(BadInputError, match="unknown order of colours"):
            wrong()


def _pictures(folder: Path) -> dict[str, Path]:
    """The same photograph in ways in which a program may hold it, made by Pillow."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    rgb = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter to the right
    made = {
        "rgb.png": rgb,
        "alpha.png": rgb.convert("RGBA"),
        "palette.png": rgb.convert("P"),
        "grey.png": rgb.convert("L"),
        "bits.png": rgb.convert("1"),
        "deep.png": Image.fromarray((pixels[..., 0].astype(np.uint16) << 8) + 77),
    }
    for name, picture in made.items():
        picture.save(folder / name)
    rgb.save(folder / "turned.jpg", exif=turned, quality=95)
    return {name: folder / name for name in (*made, "turned.jpg")}


def test_pillow_pictures_are_the_files_that_they_were_read_from(path: Path, tmp_path: Path) -> None:
    from PIL import Image

    classifier = toolchain.load(path)
    for name, file in _pictures(tmp_path).items():
        with Image.open(file) as picture:
            found = classifier.preprocess(picture).astype(int)
            # Pillow and OpenCV have decoders of their own for JPEG.
            most = 3 if name.endswith("jpg") else 0
            assert np.abs(found - classifier.preprocess(file)).max() <= most, name
            assert classifier.predict(picture).label == classifier.predict(file).label
    whole = (tmp_path / "turned.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with Image.open(tmp_path / "cut.jpg") as picture, pytest.raises(UnreadableImageError, match="decoded"):
        classifier.predict(picture)
    with pytest.raises(UnreadableImageError, match="mode F"):
        classifier.predict(Image.new("F", (40, 40)))


def _damaged(path: Path, value: float) -> Path:
    """A model file whose weights are `value`; it can reject."""
    model = onnx.load_model_from_string(tiny_artifact(path, reject=Reject("max_probability", 0.5)).model)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    weights.CopyFrom(numpy_helper.from_array(np.full((3, 3), value, np.float32), "weights"))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_an_answer_that_is_not_a_number_is_none(device: str, value: float, tmp_path: Path) -> None:
    classifier = toolchain.load(_damaged(tmp_path / "damaged.onnx", value), device)
    for ask in (
        lambda: classifier.predict(RED),
        lambda: classifier.infer([classifier.preprocess(RED)]),
        lambda: classifier.interpret(classifier.runtime.infer(classifier.preprocess(RED)[None])),
    ):
        with pytest.raises(ArtifactError, match="not a number"):
            ask()


def test_a_device_that_hangs_is_given_up(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), RED)
    monkeypatch.setattr("toolchain.classifier.INFERENCE_LIMIT_S", 0.01)
    classifier, held = toolchain.load(path), threading.Event()
    monkeypatch.setattr(classifier.runtime, "infer", lambda images: held.wait())
    with pytest.raises(MissingError, match="gave no answer for"):
        list(classifier.predict_files([tmp_path / "photo.png"]))
    held.set()


def test_the_first_answers_of_an_accelerator_may_take_as_long_as_loading(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT compiles the network for each number of pictures, and so does `torch.compile`."""
    cv2.imwrite(str(tmp_path / "photo.png"), RED)
    monkeypatch.setattr("toolchain.classifier.INFERENCE_LIMIT_S", 0.01)
    classifier = toolchain.load(path)
    infer, waits = classifier.runtime.infer, iter((0.3, 0.3, 0.0, 0.3))

    def slow(images: np.ndarray) -> Answer:
        time.sleep(next(waits))
        return infer(images)

    monkeypatch.setattr(classifier.runtime, "infer", slow)
    monkeypatch.setattr(classifier.runtime, "device", "ort:tensorrt")
    for count in (1, 2, 1):
        assert len(list(classifier.predict_files([tmp_path / "photo.png"] * count))) == count
    with pytest.raises(MissingError, match=r"gave no answer for 0\.02 s"):
        list(classifier.predict_files([tmp_path / "photo.png"] * 2))


def test_an_answer_of_another_shape_is_no_answer(path: Path) -> None:
    classifier = toolchain.load(path)
    shapes = [(odd, odd) for odd in ((), (3,), (1, 2), (1, 3, 1))] + [((1, 3), (2, 3)), ((2, 3), (1, 3))]
    for pair in shapes:
        logits, probabilities = (np.zeros(shape, np.float32) for shape in pair)
        with pytest.raises(ArtifactError, match="no number for each of 3 classes"):
            classifier.interpret(Answer(logits, probabilities))


def test_a_network_answers_each_picture(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = toolchain.load(path)
    one = classifier.runtime.infer(classifier.preprocess(RED)[None])
    monkeypatch.setattr(classifier.runtime, "infer", lambda images: one)
    with pytest.raises(ArtifactError, match="no number for each of 3 classes"):
        classifier.predict_batch([RED, RED])


@pytest.mark.parametrize("device", ["openvino:cpu", "ORT:CPU", "openvino:CPU"])
def test_what_a_cpu_may_compute_otherwise_is_told_whatever_the_capitals(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = QuantizationRecipe("edgetl", {}, "0" * 64, 1, cpu="a CPU with VNNI", cpu_flags=("avx2", "avx512_vnni"))
    tiny_artifact(tmp_path / "model.onnx")
    tiny_artifact(tmp_path / "model.int8.onnx", precision="int8", recipe=recipe)
    monkeypatch.setattr(machine, "processor", lambda: machine.Processor("old", "x86_64", ("avx2",)))
    with pytest.warns(ArtifactWarning, match="saturate"):
        assert machine.artifact_to_run(tmp_path, device).path.name == "model.onnx"


def test_int8_for_a_runtime_that_is_not_here_is_not_what_runs_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_artifact(tmp_path / "model.onnx")
    tiny_artifact(tmp_path / "model.int8.onnx", precision="int8", runtimes=("openvino:CPU",))
    assert machine.artifact_to_run(tmp_path).path.name == "model.int8.onnx"
    board = machine.Processor("Cortex-A76", "aarch64", ("asimddp",))
    with monkeypatch.context() as patched:
        patched.setattr(machine, "processor", lambda: board)
        assert machine.artifact_to_run(tmp_path).path.name == "model.onnx", "OpenVINO refuses int8 on Arm"
    monkeypatch.setattr(machine, "probe", lambda device: Device(device, False, "not installed"))
    assert machine.artifact_to_run(tmp_path).path.name == "model.onnx"
