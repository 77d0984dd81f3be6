"""Where networks looked, for networks and artifacts of which that is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import toolchain
from tests.artifacts import tiny_artifact, tiny_card, tiny_ir, tiny_model
from tests.conftest import lively
from toolchain.artifact import write_artifact
from toolchain.evaluation.metrics import log_odds
from toolchain.explain.torch_model import TorchModel, open_model
from toolchain.explain.why import answer_of, explained, grad_cam, inside, occlusion, why
from toolchain.export.raw_frame import with_raw_frame
from toolchain.images.preprocess import Image, Preprocess, read


def _square(colour: tuple[int, int, int], side: int = 32) -> tuple[Image, np.ndarray]:
    """A grey picture with a coloured square in its upper left quarter, and where the square is."""
    picture = np.full((side, side, 3), 118, np.uint8)
    region = np.zeros((side, side))
    region[: side // 2, : side // 2] = 1
    picture[region > 0] = colour
    return picture, region


@pytest.mark.parametrize("kind", ["onnx", "xml"])
def test_occlusion_finds_what_a_deployed_file_answers_to(tmp_path: Path, kind: str) -> None:
    make = tiny_ir if kind == "xml" else tiny_artifact
    classifier = toolchain.load(make(tmp_path / f"tiny.{kind}"))
    picture, region = _square((220, 30, 30))
    heat = occlusion(answer_of(classifier), picture, 0, patch=8, stride=4)
    assert heat.shape == (32, 32)
    assert heat.sum() == pytest.approx(1, abs=1e-5)
    assert inside(heat, region) > 0.85
    against = occlusion(answer_of(classifier), picture, 1, patch=8, stride=4)
    assert inside(against, region) < 0.15, "red speaks against green"


def test_a_graph_that_resizes_by_itself_sees_the_same_picture(tmp_path: Path) -> None:
    spec = Preprocess(32, 32, shortest_edge=40)
    model = with_raw_frame(tiny_model(), spec)
    write_artifact(model, tiny_card(input="frame", preprocess=spec), tmp_path / "frame.onnx")
    tiny_artifact(tmp_path / "image.onnx", preprocess=spec)
    picture, _ = _square((220, 30, 30))
    frame, image = (
        occlusion(answer_of(toolchain.load(tmp_path / name)), picture, 0) for name in ("frame.onnx", "image.onnx")
    )
    assert frame == pytest.approx(image, abs=1e-6)


def test_log_odds_are_those_of_the_class_against_all_others() -> None:
    logits = np.array([[2.0, 1.0, 0.5], [800.0, -800.0, 0.0]], np.float32)
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    found = log_odds(logits, 0)
    assert found[0] == pytest.approx(np.log(shares[0] / (1 - shares[0])), abs=1e-6)
    assert found[1] == pytest.approx(800), "no overflow"


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "vgg16"])
def test_grad_cam_works_for_every_kind_of_network(name: str) -> None:
    subject = TorchModel("random", name, lively(name, 3, seed=0), ("a", "b", "c"), Preprocess().with_size(64), 1.0)
    subject.network.requires_grad_(False)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    heats = [grad_cam.grad_cam(subject, picture, index) for index in range(3)]
    assert all(heat.shape == (64, 64) and heat.min() >= 0 for heat in heats)
    assert any(heat.sum() == pytest.approx(1, abs=1e-4) for heat in heats)
    assert not np.array_equal(heats[0], heats[1]) or not np.array_equal(heats[0], heats[2])
    assert all(parameter.grad is None for parameter in subject.network.parameters())
    assert not any(module._forward_hooks for module in subject.network.modules()), "hooks are taken off"


@pytest.mark.slow
@pytest.mark.photographs
def test_the_ready_made_network_looks_at_the_animal(real_data: Path) -> None:
    network = grad_cam.explained(open_model())
    root = real_data / "oxford-iiit-pet"
    found: dict[str, list[float]] = {"grad-cam": [], "occlusion": []}
    trimaps = sorted((root / "annotations" / "trimaps").glob("*.png"))
    photographs = [(root / "images" / f"{path.stem}.jpg", path) for path in trimaps[::300]]
    for photograph, path in photographs:
        trimap = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert trimap is not None
        animal = network.preprocess(np.repeat(255 * (trimap != 2)[..., None], 3, 2).astype(np.uint8))[..., 0] / 255
        for look in why(network, read(photograph)).saliency:
            found[look.method].append(inside(look.heat, animal))
    assert len(photographs) >= 5
    assert np.mean(found["grad-cam"]) > 0.75
    assert np.mean(found["occlusion"]) > 0.7


def test_the_device_half_explains_without_torch(tmp_path: Path) -> None:
    tiny_artifact(tmp_path / "tiny.onnx")
    cv2.imwrite(str(tmp_path / "red.png"), _square((30, 30, 220))[0])
    words = [
        "explain",
        "why",
        str(tmp_path / "tiny.onnx"),
        str(tmp_path / "red.png"),
        "--out",
        str(tmp_path / "out"),
    ]
    code = f"import sys; sys.modules['torch'] = None\nfrom toolchain.cli import run\nsys.exit(run({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "index.html").is_file()


def test_what_the_answer_hangs_on_is_measured(tmp_path: Path) -> None:
    classifier = toolchain.load(tiny_artifact(tmp_path / "tiny.onnx", scale=0.2))
    picture, region = _square((220, 30, 30))
    answer = why(explained(classifier), picture)
    assert (answer.label, answer.asked) == ("red", "red")
    assert answer.probability == pytest.approx(classifier.predict(picture).probability, abs=1e-6)
    (look,) = answer.saliency
    x, y = look.peak
    assert region[y, x] == 1
    assert look.area_of_half < 0.3
    assert look.without_hottest < answer.probability
    assert look.only_hottest > look.without_hottest


def test_another_class_can_be_asked_about(tmp_path: Path) -> None:
    classifier = toolchain.load(tiny_artifact(tmp_path / "tiny.onnx"))
    picture, _ = _square((220, 30, 30))
    picture[16:, 16:] = (30, 30, 220)
    answer = why(explained(classifier), picture, 2)
    assert answer.asked == "blue"
    region = np.zeros((32, 32))
    region[16:, 16:] = 1
    assert inside(answer.saliency[0].heat, region) > 0.6
