"""LiteRT files: what is written can be read, and what means harm is refused before LiteRT sees it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from tests.artifacts import tiny_artifact, tiny_card, tiny_model, tiny_tflite
from toolchain.artifact import CARD_KEY, parse_tflite, read_artifact
from toolchain.artifact.tflite import KINDS, NO_SCALES, NO_ZEROS, VALID, Network, Operator, Tensor, reading
from toolchain.artifact.tflite.bounds import check_network
from toolchain.artifact.tflite.reading import read_metadata, read_network
from toolchain.artifact.tflite.writing import write
from toolchain.errors import ArtifactError
from toolchain.export.litert.translate import translate
from toolchain.system import files

HERE = Path("model.tflite")


def _written(network: Network, **fields: Any) -> bytes:
    return write(network, {CARD_KEY: files.to_json(tiny_card(**fields), indent=0)})


@pytest.fixture(scope="module")
def tiny() -> Network:
    """A mean over the picture, a fully connected layer, a division, a softmax."""
    return translate(tiny_model())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    artifact = tiny_tflite(tmp_path / "model.tflite")
    assert read_artifact(artifact.path) == artifact
    assert (artifact.format, artifact.card) == ("tflite", tiny_card())
    network = read_network(artifact.model, artifact.path)
    assert write(network, dict(read_metadata(artifact.model, artifact.path))) == artifact.model


def test_weights_lie_where_the_format_wants_them(tiny: Network) -> None:
    data = _written(tiny)
    constants = [one.values for one in tiny.tensors if one.values is not None and one.values.all()]
    assert len(constants) >= 3
    for values in constants:
        assert data.index(values.tobytes()) % 16 == 0


def test_a_file_without_a_card_is_somebody_elses(tiny: Network) -> None:
    with pytest.raises(ArtifactError, match="holds no card"):
        parse_tflite(write(tiny, {}), HERE)
    with pytest.raises(ArtifactError, match="holds no card"):
        parse_tflite(write(tiny, {"TFLITE_METADATA": b"theirs"}), HERE)
    with pytest.raises(ArtifactError, match="not UTF-8"):
        parse_tflite(write(tiny, {CARD_KEY: b"\xff\xfe"}), HERE)


def test_a_card_of_another_network_is_refused(tiny: Network) -> None:
    with pytest.raises(ArtifactError, match="`logits` is float"):
        parse_tflite(_written(tiny, labels=("a", "b")), HERE)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: b"", "not a LiteRT file"),
        (lambda data: bytes(len(data)), "not a LiteRT file"),
        (lambda data: data[:4] + b"ONNX" + data[8:], "not a LiteRT file"),
        (lambda data: data[:8], "not a whole LiteRT file"),
        (lambda data: data[:100], "LiteRT"),
        (lambda data: data[: len(data) // 2], "LiteRT"),
        (lambda data: b"\xff\xff\xff\x7f" + data[4:], "not a whole LiteRT file"),
        (lambda data: b"\xff\xff\xff\xff" + data[4:], "not a whole LiteRT file"),
    ],
)
def test_files_that_are_not_whole(tiny: Network, change: Callable[[bytes], bytes], says: str) -> None:
    with pytest.raises(ArtifactError, match=says):
        parse_tflite(change(_written(tiny)), HERE)


def test_changed_bytes_end_in_an_error_or_in_a_network_within_bounds(tiny: Network) -> None:
    data, dice = _written(tiny), random.Random(0)
    refused = 0
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(dice.choice((1, 2, 8))):
            changed[dice.randrange(len(data))] = dice.choice((0, 1, 127, 255, dice.randrange(256)))
        try:
            check_network(read_network(bytes(changed), HERE), HERE)
        except ArtifactError:
            refused += 1
    assert refused > 40


def _with(network: Network, *more: Operator, tensors: tuple[Tensor, ...] = ()) -> Network:
    """`network` with operators before its own; their tensors come after the others."""
    return replace(network, tensors=(*network.tensors, *tensors), operators=(*more, *network.operators))


def _numbers(*numbers: int) -> Tensor:
    return Tensor("numbers", (len(numbers),), "int32", np.array(numbers, np.int32))


def _pad(most: int) -> Callable[[Network], Network]:
    def change(network: Network) -> Network:
        n = len(network.tensors)
        image = network.tensors[network.inputs[0]]
        amounts = replace(
            _numbers(*[0] * 8), shape=(4, 2), values=np.array([[0, 0], [0, most], [0, 0], [0, 0]], np.int32)
        )
        made = Tensor("padded", (-1, image.shape[1] + most, *image.shape[2:]), "float32")
        floats = Tensor("floats", image.shape, "float32")
        first = Operator("DEQUANTIZE", network.inputs, (n,))
        return _with(network, first, Operator("PAD", (n, n + 1), (n + 2,)), tensors=(floats, amounts, made))

    return change


def _many_sums(network: Network) -> Network:
    """Each twice as large as the one before."""
    n, more, tensors = len(network.tensors), [], []
    shape: tuple[int, ...] = (1, 1, 1, 64)
    tensors.append(Tensor("one", shape, "float32", np.ones(shape, np.float32)))
    for place in range(24):
        made = (*shape[:3], shape[3] * 2)
        tensors.append(Tensor(f"sum {place}", made, "float32"))
        options = {"axis": 3, "fusedActivationFunction": 0}
        more.append(Operator("CONCATENATION", (n + place, n + place), (n + place + 1,), options))
        shape = made
    return _with(network, *more, tensors=tuple(tensors))


def _of(kind: str, change: Callable[[Operator], Operator]) -> Callable[[Network], Network]:
    """The operator of `kind`, changed."""

    def changed(network: Network) -> Network:
        return replace(
            network, operators=tuple(change(one) if one.kind == kind else one for one in network.operators)
        )

    return changed


def _tensor(name: str, **fields: Any) -> Callable[[Network], Network]:
    """A tensor with other fields."""

    def changed(network: Network) -> Network:
        assert any(one.name == name for one in network.tensors)
        return replace(
            network, tensors=tuple(replace(one, **fields) if one.name == name else one for one in network.tensors)
        )

    return changed


NAN = np.array([np.nan], np.float32)
HARM: dict[str, tuple[Callable[[Network], Network], str]] = {
    "padding that takes the memory": (_pad(1 << 30), "it pads with"),
    "tensors that double": (_many_sums, "becomes too large"),
    "what is computed later is read": (
        lambda network: replace(network, operators=network.operators[::-1]),
        "is computed from what is not there yet",
    ),
    "an output that is never computed": (
        lambda network: replace(network, operators=network.operators[:-1]),
        "never computed",
    ),
    "an operator that writes over the input": (
        _of("SOFTMAX", lambda one: replace(one, outputs=(0,))),
        "or more than once",
    ),
    "a mean over photographs": (_tensor("rows_and_columns", values=np.array([0, 1], np.int32)), "its axes are"),
    "a mean over an axis twice": (_tensor("rows_and_columns", values=np.array([1, 1], np.int32)), "its axes are"),
    "an activation that nobody knows": (
        _of("DIV", lambda one: replace(one, options={"fusedActivationFunction": 5})),
        "its activation",
    ),
    "another softmax": (_of("SOFTMAX", lambda one: replace(one, options={"beta": float("nan")})), "its `beta`"),
    "an input too few": (
        _of("FULLY_CONNECTED", lambda one: replace(one, inputs=one.inputs[:2])),
        "it has 2 inputs",
    ),
    "an input too many": (
        _of("FULLY_CONNECTED", lambda one: replace(one, inputs=(*one.inputs, one.inputs[2]))),
        "it has 4 inputs",
    ),
    "weights in the place of the picture": (
        _of("FULLY_CONNECTED", lambda one: replace(one, inputs=(one.inputs[1], one.inputs[0], one.inputs[2]))),
        "do not fit|is computed",
    ),
    "a shape that the file makes up": (_tensor("logits", shape=(-1, 4)), "and the file says"),
    "a type that the file makes up": (_tensor("logits", type="int8"), "does not say what its integers stand for"),
    "a scale that is no number": (_tensor("image", scales=NAN), "scales that are not above 0"),
    "a scale below 0": (_tensor("image", scales=-NAN * 0 - 1), "scales that are not above 0"),
    "a zero point that no byte is": (_tensor("image", zero_points=np.array([256])), "the zero point 256"),
    "bytes that stand for nothing": (
        _tensor("image", scales=NO_SCALES, zero_points=NO_ZEROS),
        "does not say what its integers stand for",
    ),
    "scales along an axis of the picture": (
        _tensor("image", scales=np.ones(3, np.float32), zero_points=np.zeros(3, np.int64), axis=3),
        "has 3 scales, and may not",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_networks_that_mean_harm(tiny: Network, name: str) -> None:
    change, says = HARM[name]
    with pytest.raises(ArtifactError, match=says):
        parse_tflite(_written(change(tiny)), HERE)


def _convolution(**options: int) -> Network:
    known = {"padding": VALID, "strideW": 1, "strideH": 1, "fusedActivationFunction": 0}
    known |= {"dilationWFactor": 1, "dilationHFactor": 1}
    tensors = (
        Tensor("image", (-1, 8, 8, 3), "float32"),
        Tensor("weights", (4, 3, 3, 3), "float32", np.zeros((4, 3, 3, 3), np.float32)),
        Tensor("bias", (4,), "float32", np.zeros(4, np.float32)),
        Tensor("made", (-1, 6, 6, 4), "float32"),
    )
    return Network(tensors, (Operator("CONV_2D", (0, 1, 2), (3,), known | options),), (0,), (3,))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strideW": 0}, "steps or window"),
        ({"strideH": -1}, "steps or window"),
        ({"dilationWFactor": 0}, "steps or window"),
        ({"strideW": 1 << 30}, "steps or window"),
        ({"dilationHFactor": 4}, "larger than the maps"),
        ({"strideW": 2}, "and the file says"),
        ({"padding": 7}, "padding"),
    ],
)
def test_windows_are_within_bounds(options: dict[str, int], says: str) -> None:
    check_network(_convolution(), HERE)
    with pytest.raises(ArtifactError, match=says):
        check_network(_convolution(**options), HERE)


def test_lengths_are_not_believed(tiny: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_ITEMS", len(tiny.tensors) - 1)
    with pytest.raises(ArtifactError, match=rf"{len(tiny.tensors)} tensors"):
        parse_tflite(_written(tiny), HERE)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="more than 64 inputs"):
        parse_tflite(_written(_of("DIV", lambda one: replace(one, inputs=one.inputs * 40))(tiny)), HERE)


def test_only_known_operators_are_read(tiny: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _written(tiny)
    monkeypatch.delitem(KINDS, "SOFTMAX")  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="number 25"):
        read_network(data, HERE)


def test_a_name_that_ends_otherwise_is_not_looked_into(tmp_path: Path) -> None:
    tiny_tflite(tmp_path / "model.tflite").path.rename(tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match="not a whole ONNX file"):
        read_artifact(tmp_path / "model.onnx")
    tiny_artifact(tmp_path / "other.onnx").path.rename(tmp_path / "other.tflite")
    with pytest.raises(ArtifactError, match="not a LiteRT file"):
        read_artifact(tmp_path / "other.tflite")
