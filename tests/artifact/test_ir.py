"""OpenVINO's pair of files is read as strictly as ONNX, and without OpenVINO."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

import toolchain
from tests.artifacts import tiny_artifact, tiny_card, tiny_ir, tiny_model
from tests.clips import plain
from toolchain.artifact import MAX_CARD_BYTES, find_artifact, read_artifact
from toolchain.artifact.ir import MAX_ELEMENTS, MAX_XML_BYTES
from toolchain.errors import ArtifactError, BadInputError
from toolchain.export.raw_frame import with_raw_frame
from toolchain.export.variants import make_ir, write_ir
from toolchain.runtimes import open_runtime

CARD = re.compile(r'<edgetl\.card value="([^"]*)" />')
SHA256 = re.compile(r'<edgetl\.weights_sha256 value="([^"]*)" />')
BOMB = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tiny_ir(tmp_path / "model.xml")
    return tmp_path / "model.xml"


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def _card_text(path: Path) -> str:
    [text] = CARD.findall(path.read_text(encoding="utf-8"))
    return unescape(str(text))


def _with_card(path: Path, text: str) -> None:
    xml = path.read_text(encoding="utf-8")
    path.write_text(CARD.sub(lambda _: f'<edgetl.card value="{escape(text)}" />', xml), encoding="utf-8")


def _with_weights(path: Path, weights: bytes) -> None:
    """Other weights, and the digest that fits them."""
    path.with_suffix(".bin").write_bytes(weights)
    xml = path.read_text(encoding="utf-8")
    digest = hashlib.sha256(weights).hexdigest()
    path.write_text(SHA256.sub(f'<edgetl.weights_sha256 value="{digest}" />', xml), encoding="utf-8")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    labels = ("Siamese", "größe <&\"'>", "猫")
    written = tiny_ir(tmp_path / "model.int8.xml", labels=labels)
    found = read_artifact(tmp_path / "model.int8.xml")
    assert found == written
    assert found.card == tiny_card(labels=labels)
    assert found.format == "openvino"
    files = [tmp_path / name for name in ("model.int8.xml", "model.int8.bin")]
    assert sorted(tmp_path.iterdir()) == sorted(files), "nothing else is left behind"
    content = b"".join(file.read_bytes() for file in files)
    assert found.sha256 == hashlib.sha256(content).hexdigest(), "cat model.xml model.bin | sha256sum"
    assert found.size_mb == len(content) / 1e6


def test_card_is_json_under_its_key(path: Path) -> None:
    assert json.loads(_card_text(path))["schema"] == "edgetl.card/1"


def test_answers_are_those_of_the_onnx_file(path: Path, tmp_path: Path) -> None:
    tiny_artifact(tmp_path / "model.onnx")
    classifier = toolchain.load(path)
    assert classifier.runtime.device == "openvino:CPU", "the default for an OpenVINO file"
    reference = toolchain.load(tmp_path / "model.onnx", "openvino:CPU")
    for colour in ("red", "green", "blue"):
        frame = plain(colour)[..., ::-1].copy()
        prediction = classifier.predict(frame)
        assert prediction.label == colour
        np.testing.assert_array_equal(prediction.logits, reference.predict(frame).logits)
    assert len(classifier.predict_batch([plain("red")] * 5)) == 5, "the batch is dynamic"


@pytest.mark.parametrize("device", ["ort:cpu", "torch:cpu"])
def test_other_runtimes_say_what_to_do(path: Path, device: str) -> None:
    with pytest.raises(BadInputError, match=r"runs \.onnx files") as raised:
        open_runtime(read_artifact(path), device, unproven=True)
    assert type(raised.value) is BadInputError, "not a broken file"
    assert "openvino:CPU" in raised.value.hint


def test_reading_needs_no_openvino(path: Path) -> None:
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from pathlib import Path\nfrom toolchain.artifact import read_artifact\n"
        f"print(read_artifact(Path({str(path)!r})).card.labels)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "red" in done.stdout


@pytest.mark.parametrize("kept", [0, 1, 10, 0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_truncated_files_are_refused(path: Path, suffix: str, kept: float) -> None:
    file = path.with_suffix(suffix)
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(ArtifactError, match=r"model\.(xml|bin)"):
        read_artifact(path)


def test_weights_that_are_missing_too_long_or_of_another_file(path: Path, tmp_path: Path) -> None:
    beside = path.with_suffix(".bin")
    weights = beside.read_bytes()
    beside.write_bytes(weights + b"\0")
    with pytest.raises(ArtifactError, match=rf"model\.bin has {len(weights) + 1} bytes"):
        read_artifact(path)
    beside.write_bytes(bytes(len(weights)))
    with pytest.raises(ArtifactError, match=r"model\.bin does not hold the weights"):
        read_artifact(path)
    beside.unlink()
    with pytest.raises(ArtifactError, match=r"model\.bin does not exist") as raised:
        read_artifact(path)
    assert "copy both" in raised.value.hint


def test_the_weights_file_alone_is_no_network(path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds weights only") as raised:
        read_artifact(path.with_suffix(".bin"))
    assert "model.xml" in raised.value.hint
    assert find_artifact(path) == path


@pytest.mark.parametrize(("suffix", "limit"), [(".xml", MAX_XML_BYTES), (".bin", 1 << 30)])
def test_giant_files_are_refused_before_they_are_read(path: Path, suffix: str, limit: int) -> None:
    with path.with_suffix(suffix).open("wb") as file:
        file.truncate(limit + 1)  # a hole, not a gigabyte
    start = time.perf_counter()
    with pytest.raises(ArtifactError, match="at most"):
        read_artifact(path)
    assert time.perf_counter() - start < 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_and_devices_are_not_waited_for(path: Path) -> None:
    beside = path.with_suffix(".bin")
    beside.unlink()
    os.mkfifo(beside)
    with pytest.raises(ArtifactError, match=r"model\.bin cannot be read: it is a pipe or a device"):
        read_artifact(path)
    beside.unlink()
    beside.symlink_to("/dev/zero")
    with pytest.raises(ArtifactError, match=r"model\.bin cannot be read: it is a pipe or a device"):
        read_artifact(path)


@pytest.mark.parametrize(
    ("head", "entity"),
    [
        (f'<!DOCTYPE net [<!ENTITY l0 "{"lol" * 100}">{BOMB}]>', "&l8;"),
        ('<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "&x;"),
        ('<!DOCTYPE net SYSTEM "http://localhost:1/net.dtd">', ""),
        ("<!DOCTYPE net>", ""),
    ],
    ids=["bomb", "file", "dtd", "plain"],
)
def test_document_types_are_refused_unread(path: Path, head: str, entity: str) -> None:
    _change(path, '<?xml version="1.0"?>', f'<?xml version="1.0"?>{head}')
    _change(path, "<layers>", f"<layers>{entity}")
    start = time.perf_counter()
    with pytest.raises(ArtifactError, match="document type"):
        read_artifact(path)
    assert time.perf_counter() - start < 1


def _xml(text: str | bytes) -> Callable[[Path], None]:
    data = text.encode() if isinstance(text, str) else text
    return lambda path: path.write_bytes(data) and None


def _swap(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: _change(path, old, new)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_xml("words, not a network"), "not a whole XML file"),
        (_xml(bytes(1000)), "not a whole XML file"),
        (_xml("<net/>"), "holds no network"),
        (_xml("<html><body/></html>"), "holds no network"),
        (_xml("<a>" * 100), "too many elements"),
        (_xml("<net>" + "<a/>" * (MAX_ELEMENTS + 1) + "</net>"), "too many elements"),
        (_swap("edgetl.card", "author"), "no card"),
        (_swap("<edgetl.card", '<edgetl.card value="{}" /><edgetl.card'), "2 cards"),
        (_swap("edgetl.weights_sha256", "digest"), "does not hold the weights"),
        (lambda path: _with_card(path, "{" + " " * MAX_CARD_BYTES + "}"), "more than 4 MiB"),
        (_swap('element_type="u8"', 'element_type="f32"'), "`image` is float"),
        (_swap('element_type="u8"', 'element_type="q7"'), "`image` is undefined"),
        (_swap('shape="?,32,32,3"', 'shape="?,64,64,3"'), r"`image` is uint8 \[0, 64, 64, 3\]"),
        (_swap('shape="?,32,32,3"', 'shape="1..8,32..64,32,3"'), r"`image` is uint8 \[0, 0, 32, 3\]"),
        (_swap('shape="?,32,32,3"', 'shape=""'), r"`image` is uint8 \[\]"),
        (_swap('shape="?,32,32,3"', 'shape="32,many"'), "not a whole OpenVINO network"),
        (_swap("<dim>3</dim>", f"<dim>{'9' * 5000}</dim>"), "not a whole OpenVINO network"),
        (_swap("<dim>3</dim>", f"<dim>{1 << 70}</dim>"), "not a whole OpenVINO network"),
        (_swap('names="image"', 'names="input"'), r"inputs are \['input'\]"),
        (_swap(' names="logits"', ' names="scores"'), "no output `logits`"),
        (_swap(' names="probabilities"', ""), "no output `probabilities`"),
        (_swap('offset="0"', 'offset="-8"'), "outside the weights"),
        (_swap('offset="0"', 'offset="x"'), "not a whole OpenVINO network"),
        (_swap('offset="0"', f'offset="{1 << 40}"'), r"model\.bin has"),
        (_swap('type="Parameter"', ""), "not a whole OpenVINO network"),
        (_swap('to-layer="', 'to="'), "not a whole OpenVINO network"),
    ],
)
def test_files_that_were_tampered_with_are_refused(path: Path, change: Callable[[Path], None], said: str) -> None:
    change(path)
    start = time.perf_counter()
    with pytest.raises(ArtifactError, match=said) as raised:
        read_artifact(path)
    assert time.perf_counter() - start < 5
    assert len(raised.value.message) < 400


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "edgetl.card/2"),
        ("labels", ["red", "red", "blue"]),
        ("temperature", "1"),
        ("preprocess", None),
        ("precision", "int4"),
        ("recipe", {"quantiser": "x", "settings": {}}),
        ("splits", {"test": "abc"}),
    ],
)
def test_a_wrong_field_of_the_card_is_named(path: Path, field: str, value: Any) -> None:
    card = json.loads(_card_text(path))
    _with_card(path, json.dumps(card | {field: value}))
    with pytest.raises(ArtifactError, match=field):
        read_artifact(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_cards_of_another_kind_are_refused(path: Path, text: str) -> None:
    _with_card(path, text)
    with pytest.raises(ArtifactError, match="card"):
        read_artifact(path)


def test_labels_must_fit_the_graph(path: Path) -> None:
    card = json.loads(_card_text(path))
    _with_card(path, json.dumps(card | {"labels": ["red", "green"]}))
    with pytest.raises(ArtifactError, match=r"`logits` .*2"):
        read_artifact(path)


def test_stated_shapes_do_not_deceive_the_runtime(path: Path) -> None:
    """OpenVINO reckons shapes itself: a file that states those of its card, and has others, is found out there."""
    card = json.loads(_card_text(path))
    _with_card(path, json.dumps(card | {"labels": ["red", "green", "blue", "grey"]}))
    xml = path.read_text(encoding="utf-8")
    port = r'(precision="FP32" names="(?:logits|probabilities)">\s*<dim>-1</dim>\s*)<dim>3</dim>'
    path.write_text(re.sub(port, r"\1<dim>4</dim>", xml), encoding="utf-8")
    artifact = read_artifact(path)
    with pytest.raises(ArtifactError, match="`logits` is"):
        open_runtime(artifact, "openvino:CPU")


def test_a_graph_that_openvino_cannot_read_is_an_artifact_error(path: Path) -> None:
    _change(path, 'type="SoftMax"', 'type="TopK"')
    with pytest.raises(ArtifactError, match="OpenVINO cannot load it") as raised:
        open_runtime(read_artifact(path), "openvino:CPU")
    assert raised.value.hint == ""
    tiny_ir(path, precision="int8")
    _change(path, 'type="SoftMax"', 'type="TopK"')
    with pytest.raises(ArtifactError, match="OpenVINO cannot load it") as raised:
        open_runtime(read_artifact(path), "openvino:CPU")
    assert "float32" in raised.value.hint


def test_constants_that_reach_beyond_the_weights_are_found_in_any_body(path: Path) -> None:
    """Whatever is nested in loops and branches is looked at too."""
    _change(
        path,
        "<layers>",
        '<layers><layer id="900" type="ReLU"><body><data offset="0" size="999999" /></body></layer>',
    )
    _with_weights(path, path.with_suffix(".bin").read_bytes())
    with pytest.raises(ArtifactError, match="wants 999999"):
        read_artifact(path)


@pytest.mark.parametrize("kind", ["Loop", "TensorIterator", "If", "ReadValue", "Attention"])
def test_layers_that_no_classifier_needs_are_refused(path: Path, kind: str) -> None:
    _change(path, 'type="ReduceMean"', f'type="{kind}"')
    with pytest.raises(ArtifactError, match=f"holds a layer '{kind}'"):
        read_artifact(path)


def _ir_of(path: Path, vast: list[int]) -> None:
    """Logits to which the sum of `vast` noughts is added."""
    model = tiny_model()
    model.graph.initializer.append(numpy_helper.from_array(np.array(vast, np.int64), "vast"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["vast"], ["sea"]))
    model.graph.node.insert(1, helper.make_node("ReduceSum", ["sea"], ["drop"], keepdims=0))
    next(node for node in model.graph.node if node.op_type == "Gemm").input[2] = "drop"
    write_ir(make_ir(model.SerializeToString(), tiny_card(), path))


def test_sizes_are_bounded_before_it_is_compiled(tmp_path: Path) -> None:
    path = tmp_path / "vast.xml"
    _ir_of(path, [1 << 16, 1 << 15])
    with pytest.raises(ArtifactError, match="too large"):
        open_runtime(read_artifact(path), "openvino:CPU")
    _ir_of(path, [4, 4])
    assert open_runtime(read_artifact(path), "openvino:CPU").device == "openvino:CPU"


def test_frames_of_any_size_are_taken(tmp_path: Path) -> None:
    card = tiny_card(input="frame")
    model = with_raw_frame(tiny_model(), card.preprocess)
    write_ir(make_ir(model.SerializeToString(), card, tmp_path / "frame.xml"))
    classifier = toolchain.load(tmp_path / "frame.xml")
    for height, width in ((40, 60), (500, 300), (1080, 1920)):
        assert classifier.predict(plain("red", height, width)[..., ::-1].copy()).label == "red"
