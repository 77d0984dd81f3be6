"""OpenVINO's pair of files, one of which is missing, damaged, or another's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.bad_inputs.entry import GOOD, Entry, Make, Stock, camera, predict

Change = Callable[[bytes], "bytes | None"]

XML, BIN = "bad.xml", "bad.bin"
ALL = (("card", XML), predict(GOOD, model=XML), camera(GOOD, model=XML))
TWO = ALL[:2]


def _pair(xml: Change, weights: Change = lambda data: data) -> Make:
    """The good pair with other contents; None leaves the file away."""

    def make(stock: Stock, place: Path) -> None:
        for name, source, change in ((XML, stock.ir, xml), (BIN, stock.ir.with_suffix(".bin"), weights)):
            content = change(source.read_bytes())
            if content is not None:
                (place / name).write_bytes(content)

    return make


def _same(data: bytes) -> bytes:
    return data


def _swap(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(xml: bytes) -> bytes:
        changed = re.sub(old.encode(), lambda _: new.encode(), xml)
        assert changed != xml, f"the file holds no {old}"
        return changed

    return change


def _flipped(seed: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        rng = np.random.default_rng(seed)
        changed = bytearray(data)
        changed[rng.integers(0, len(data))] = rng.integers(32, 127)
        return bytes(changed)

    return change


BOMB = "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
PAIRS: dict[str, tuple[Change, Change]] = {
    "no-weights": (_same, lambda data: None),
    "empty-weights": (_same, lambda data: b""),
    "weights-cut-off": (_same, lambda data: data[:-1]),
    "weights-too-long": (_same, lambda data: data + b"\0"),
    "weights-changed": (_same, lambda data: bytes([data[0] ^ 1]) + data[1:]),
    "weights-of-zeros": (_same, lambda data: bytes(len(data))),
    "empty-network": (lambda xml: b"", _same),
    "network-is-html": (lambda xml: b"<html><body>404</body></html>", _same),
    "network-is-json": (lambda xml: b'{"net": 1}', _same),
    "network-is-utf-16": (lambda xml: xml.decode().encode("utf-16"), _same),
    "network-of-zeros": (lambda xml: bytes(len(xml)), _same),
    "bare-element": (lambda xml: b"<net/>", _same),
    "entity-bomb": (lambda xml: f'<!DOCTYPE net [<!ENTITY a "x">{BOMB}]><net>&i;</net>'.encode(), _same),
    "entity-from-a-file": (
        lambda xml: b'<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]><net>&x;</net>',
        _same,
    ),
    "100000-deep": (lambda xml: b"<net>" * 100_000, _same),
    "attribute-of-10-megabytes": (lambda xml: b'<net name="' + b"x" * (10 << 20) + b'"/>', _same),
    "two-roots": (lambda xml: xml + b"<net/>", _same),
    "no-edges": (lambda xml: re.sub(rb"<edge [^>]*/>", b"", xml), _same),
    "no-layers": (lambda xml: re.sub(rb"<layers>.*</layers>", b"<layers/>", xml, flags=re.S), _same),
    "no-rt-info": (lambda xml: re.sub(rb"<rt_info>.*</rt_info>", b"", xml, flags=re.S), _same),
    "no-digest": (lambda xml: re.sub(rb"<edgetl.weights_sha256 [^>]*/>", b"", xml), _same),
    "offset-negative": (_swap(r'offset="0"', 'offset="-8"'), _same),
    "offset-outside": (_swap(r'offset="0"', 'offset="999999999999"'), _same),
    "offset-text": (_swap(r'offset="0"', 'offset="zero"'), _same),
    "size-of-an-exabyte": (_swap(r'size="36"', 'size="1152921504606846976"'), _same),
    "input-of-floats": (_swap(r'element_type="u8"', 'element_type="f32"'), _same),
    "input-of-another-size": (_swap(r"\?,32,32,3", "?,16,16,3"), _same),
    "input-of-negative-size": (_swap(r"\?,32,32,3", "?,-32,-32,3"), _same),
    "input-shape-of-text": (_swap(r"\?,32,32,3", "a,b,c,d"), _same),
    "card-of-tomorrow": (_swap(r"edgetl\.card/1", "edgetl.card/9"), _same),
    "card-of-other-classes": (_swap("green", "red"), _same),
    "card-empty": (lambda xml: re.sub(rb'(<edgetl.card value=")[^"]*', rb"\1", xml), _same),
}
READABLE = {"network-is-utf-16"}
"""XML may be written so."""
WRONG = tuple(
    Entry(name, ALL, _pair(*changes), (0, 2) if name in READABLE else (2,)) for name, changes in PAIRS.items()
)
CUT = tuple(
    Entry(f"cut-at-{share:g}", TWO, _pair(lambda xml, share=share: xml[: int(len(xml) * share)]), says=XML)
    for share in (0.05, 0.3, 0.6, 0.9, 0.99)
)
# A changed letter may stand in a name that nobody reads.
CHANGED = tuple(Entry(f"changed-{seed}", TWO, _pair(_flipped(seed)), (0, 2)) for seed in range(16))


def _alone(stock: Stock, place: Path) -> None:
    shutil.copyfile(stock.ir.with_suffix(".bin"), place / BIN)


def _weights_are_a_folder(stock: Stock, place: Path) -> None:
    _pair(_same, lambda data: None)(stock, place)
    (place / BIN).mkdir()


def _onnx_called_xml(stock: Stock, place: Path) -> None:
    shutil.copyfile(stock.tiny, place / XML)
    _alone(stock, place)


def _xml_called_onnx(stock: Stock, place: Path) -> None:
    shutil.copyfile(stock.ir, place / "bad.onnx")


def _on(device: str) -> tuple[tuple[str, ...], ...]:
    return (("predict", XML, GOOD, "--device", device),)


FILES = (
    Entry("weights-named-alone", (("card", BIN), predict(GOOD, model=BIN)), _alone),
    Entry("weights-named", (("card", BIN), predict(GOOD, model=BIN)), _pair(_same), says="weights only"),
    Entry("weights-are-a-folder", ALL, _weights_are_a_folder),
    Entry("onnx-called-xml", ALL, _onnx_called_xml),
    Entry("xml-called-onnx", (("card", "bad.onnx"), predict(GOOD, model="bad.onnx")), _xml_called_onnx),
    Entry("on-onnx-runtime", _on("ort:cpu"), _pair(_same), says="Run it on openvino:CPU"),
    Entry("on-torch", _on("torch:cpu"), _pair(_same), says="Run it on openvino:CPU"),
    Entry("on-a-device-that-is-not-there", _on("openvino:GPU.7"), _pair(_same), (2, 3)),
)

ENTRIES = (*WRONG, *CUT, *CHANGED, *FILES)
