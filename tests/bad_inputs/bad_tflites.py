"""LiteRT's file, damaged, another's, or on another's runtime."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tests.artifacts import tiny_artifact, tiny_tflite
from tests.bad_inputs.entry import GOOD, Entry, Make, Stock, camera, predict

Change = Callable[[bytes], bytes]

BAD = "bad.tflite"
ALL = (("card", BAD), predict(GOOD, model=BAD), camera(GOOD, model=BAD))
TWO = ALL[:2]


def _changed(change: Change) -> Make:
    """The good file with another content."""

    def make(stock: Stock, place: Path) -> None:
        path = tiny_tflite(place / BAD).path
        path.write_bytes(change(path.read_bytes()))

    return make


def _flipped(seed: int) -> Change:
    def change(data: bytes) -> bytes:
        dice = np.random.default_rng(seed)
        changed = bytearray(data)
        for place in dice.integers(0, len(data), 3):
            changed[place] = dice.integers(0, 256)
        return bytes(changed)

    return change


def _swap(old: bytes, new: bytes) -> Change:
    def change(data: bytes) -> bytes:
        assert data.count(old), f"the file holds no {old!r}"
        assert len(old) == len(new)
        return data.replace(old, new)

    return change


CONTENTS: dict[str, Change] = {
    "empty": lambda data: b"",
    "of-zeros": lambda data: bytes(len(data)),
    "html": lambda data: b"<html><body>404: not found</body></html>",
    "identifier-alone": lambda data: data[:8],
    "identifier-of-another": lambda data: data[:4] + b"TFL2" + data[8:],
    "root-outside": lambda data: b"\xff\xff\xff\x7f" + data[4:],
    "root-negative": lambda data: b"\xff\xff\xff\xff" + data[4:],
    "root-at-itself": lambda data: bytes(4) + data[4:],
    "all-ones-after-the-identifier": lambda data: data[:8] + b"\xff" * (len(data) - 8),
    "twice": lambda data: b"\0" * 8 + data,
    "card-by-another-name": _swap(b"edgetl.card\0", b"edgetl.cart\0"),
    "card-of-tomorrow": _swap(b'"edgetl.card/1"', b'"edgetl.card/9"'),
    "card-cut-short": _swap(b'{"schema"', b' "schema"'),
    "card-is-not-utf-8": _swap(b'"red"', b'"\xff\xfe\xfd"'),
    "input-by-another-name": _swap(b"image\0", b"imago\0"),
    "output-by-another-name": _swap(b"logits\0", b"logist\0"),
}
WRONG = tuple(Entry(name, ALL, _changed(change)) for name, change in CONTENTS.items())
CUT = tuple(
    Entry(f"cut-at-{share:g}", TWO, _changed(lambda data, share=share: data[: int(len(data) * share)]), says=BAD)
    for share in (0.05, 0.3, 0.6, 0.9)
)
# A changed byte may lie where nobody reads, or be a weight.
CHANGED = tuple(Entry(f"changed-{seed}", TWO, _changed(_flipped(seed)), (0, 2)) for seed in range(16))


def _onnx_called_tflite(stock: Stock, place: Path) -> None:
    shutil.copyfile(stock.tiny, place / BAD)


def _tflite_called_onnx(stock: Stock, place: Path) -> None:
    tiny_tflite(place / BAD).path.rename(place / "bad.onnx")


def _other_labels(stock: Stock, place: Path) -> None:
    """The card of a network of four classes, on one of three."""
    four = tiny_artifact(place / "four.onnx", labels=("a", "b", "c", "d")).card
    (place / "four.onnx").unlink()
    from toolchain.artifact import CARD_KEY
    from toolchain.artifact.tflite.reading import read_network
    from toolchain.artifact.tflite.writing import write
    from toolchain.system import files

    path = tiny_tflite(place / BAD).path
    path.write_bytes(write(read_network(path.read_bytes(), path), {CARD_KEY: files.to_json(four, indent=0)}))


def _folder(stock: Stock, place: Path) -> None:
    (place / BAD).mkdir()


def _on(device: str, model: str = BAD) -> tuple[tuple[str, ...], ...]:
    return (("predict", model, GOOD, "--device", device), ("camera", model, "--source", GOOD, "--device", device))


def _same(data: bytes) -> bytes:
    return data


FILES = (
    Entry("onnx-called-tflite", ALL, _onnx_called_tflite, says="not a LiteRT file"),
    Entry("tflite-called-onnx", (("card", "bad.onnx"), predict(GOOD, model="bad.onnx")), _tflite_called_onnx),
    Entry("card-of-other-classes", ALL, _other_labels, says="`logits` is float"),
    Entry("a-folder", ALL, _folder),
    Entry("on-onnx-runtime", _on("ort:cpu"), _changed(_same), says="Run it on litert:cpu"),
    Entry("on-openvino", _on("openvino:CPU"), _changed(_same), says="Run it on litert:cpu"),
    Entry("on-torch", _on("torch:cpu"), _changed(_same), says="Run it on litert:cpu"),
    Entry("on-a-device-that-is-not-there", _on("litert:gpu"), _changed(_same), says="unknown device"),
    Entry("onnx-on-litert", _on("litert:cpu", "tiny.onnx"), says="LiteRT runs .tflite files"),
)

ENTRIES = (*WRONG, *CUT, *CHANGED, *FILES) if find_spec("ai_edge_litert") else ()
"""None where LiteRT is not installed, which the files are made with."""
