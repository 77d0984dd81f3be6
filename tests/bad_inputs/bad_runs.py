"""Run folders in which a file is missing, damaged, or another run's."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.bad_inputs.entry import GOOD, Entry, Make, Stock, Words, camera, nothing, predict

RUN = "run"
EXPORT: Words = ("export", RUN, "--target", "ort:cpu")
WHY: Words = ("explain", "why", RUN, GOOD, "--method", "grad-cam")
IDEAL: Words = ("explain", "ideal", RUN, "--class", "cat", "--steps", "1")
FEATURES: Words = ("explain", "features", "--run", RUN, "--list-layers")
ATTACK: Words = ("explain", "attack", RUN, GOOD, "--steps", "1")
BENCH: Words = ("bench", RUN, "--device", "torch:cpu", "--rounds", "1")
READERS = (EXPORT, WHY, IDEAL, FEATURES, ATTACK)
RESUME: Words = ("finetune", "--resume", RUN)
MISSING = object()


def _copied(source: Path, place: Path) -> Path:
    return Path(shutil.copytree(source, place / RUN))


def _file(name: str, change: Callable[[bytes], bytes | None]) -> Make:
    """A whole run with one file changed; None removes it."""

    def make(stock: Stock, place: Path) -> None:
        path = _copied(stock.run(), place) / name
        content = change(path.read_bytes())
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    return make


def _fields(name: str, **fields: Any) -> Make:
    """A whole run with other values in a JSON file; a dot is written as two underscores."""

    def change(data: bytes) -> bytes:
        document = json.loads(data)
        for field, value in fields.items():
            *outer, key = field.split("__")
            place = document
            for part in outer:
                place = place[part]
            if value is MISSING:
                del place[key]
            else:
                place[key] = value
        return json.dumps(document).encode()

    return _file(name, change)


def _gone(data: bytes) -> None:
    return None


def _of_other_network(data: bytes) -> bytes:
    from safetensors.numpy import save

    return bytes(save({"features.0.weight": np.zeros((3, 3), np.float32)}))


def _with_nan(data: bytes) -> bytes:
    from safetensors.numpy import load, save

    tensors = load(data)
    name = sorted(name for name in tensors if tensors[name].ndim == 4)[0]
    tensors[name] = np.full_like(tensors[name], np.nan)
    return bytes(save(tensors))


def _wider(data: bytes) -> bytes:
    """Each weight has one element more."""
    from safetensors.numpy import load, save

    return bytes(save({name: np.append(value.ravel(), value.ravel()[:1]) for name, value in load(data).items()}))


def _without_a_number(data: bytes) -> bytes:
    document = json.loads(data)
    return json.dumps(document | {"temperature": float("nan")}).encode()


RECORDS: dict[str, tuple[tuple[Words, ...], Make]] = {
    "run-json-missing": (READERS, _file("run.json", _gone)),
    "run-json-empty": (READERS, _file("run.json", lambda data: b"")),
    "run-json-cut-off": (READERS, _file("run.json", lambda data: data[: len(data) // 2])),
    "run-json-not-utf-8": (READERS, _file("run.json", lambda data: data.replace(b"cat", b"c\xe9t"))),
    "run-json-with-nan": (READERS, _file("run.json", _without_a_number)),
    "run-json-100000-deep": (READERS, _file("run.json", lambda data: b"[" * 100_000)),
    "run-json-a-list": (READERS, _file("run.json", lambda data: b"[]")),
    "run-json-of-a-package": (READERS, _file("run.json", lambda data: b'{"name": "app", "version": "1.0.0"}')),
    "schema-of-tomorrow": (READERS, _fields("run.json", schema="edgetl.run/2")),
    "model-unknown": (READERS, _fields("run.json", model__name="efficientnet_b99")),
    "model-another": (READERS, _fields("run.json", model__name="resnet18")),
    "model-a-path": (READERS, _fields("run.json", model__name="../../etc/passwd")),
    "classes-none": (READERS, _fields("run.json", data__classes=[])),
    "classes-too-few": (READERS, _fields("run.json", data__classes=["cat", "dog"])),
    "classes-too-many": (READERS, _fields("run.json", data__classes=["cat", "dog", "fish", "goat"])),
    "temperature-0": (READERS[1:], _fields("run.json", temperature=0.0)),
    "temperature-text": (READERS, _fields("run.json", temperature="warm")),
    "preprocess-of-no-size": (READERS, _fields("run.json", preprocess__height=0)),
    "preprocess-edge-too-small": (READERS, _fields("run.json", preprocess__shortest_edge=8)),
    "settings-missing": (READERS, _fields("run.json", settings=MISSING)),
    "photographs-gone": ((EXPORT,), _fields("run.json", data__path="/nonexistent/photographs")),
    "photographs-are-a-file": ((EXPORT,), _fields("run.json", data__path="/dev/null")),
    "photographs-of-another-time": ((EXPORT,), _fields("run.json", data__path=".")),
    "weights-missing": (READERS, _file("model.safetensors", _gone)),
    "weights-empty": (READERS, _file("model.safetensors", lambda data: b"")),
    "weights-cut-off": (READERS, _file("model.safetensors", lambda data: data[: len(data) // 2])),
    "weights-one-byte-short": (READERS, _file("model.safetensors", lambda data: data[:-1])),
    "weights-a-byte-more": (READERS, _file("model.safetensors", lambda data: data + b"\0")),
    "weights-of-zeros": (READERS, _file("model.safetensors", lambda data: bytes(5000))),
    "weights-with-a-header-of-exabytes": (
        READERS,
        _file("model.safetensors", lambda data: struct.pack("<Q", 2**62) + data[8:]),
    ),
    "weights-with-a-header-that-is-no-json": (
        READERS,
        _file("model.safetensors", lambda data: data[:8] + b"x" + data[9:]),
    ),
    "weights-a-pickle": (READERS, _file("model.safetensors", lambda data: b"\x80\4cos\nsystem\n(S'true'\ntR.")),
    "weights-html": (READERS, _file("model.safetensors", lambda data: b"<html>Sign in</html>")),
    "weights-of-another-network": (READERS, _file("model.safetensors", _of_other_network)),
    "weights-of-other-shapes": (READERS, _file("model.safetensors", _wider)),
    "weights-of-nan": ((EXPORT, WHY), _file("model.safetensors", _with_nan)),
    "splits-missing": ((EXPORT,), _file("splits.json", _gone)),
    "splits-empty": ((EXPORT,), _file("splits.json", lambda data: b"")),
    "splits-cut-off": ((EXPORT,), _file("splits.json", lambda data: data[:200])),
    "splits-a-list": ((EXPORT,), _file("splits.json", lambda data: b"[]")),
    "splits-of-nothing": ((EXPORT,), _file("splits.json", lambda data: b"{}")),
    "splits-without-val": ((EXPORT,), _fields("splits.json", val=MISSING)),
    "splits-val-empty": ((EXPORT,), _fields("splits.json", val=[])),
    "splits-of-unknown-class": (
        (EXPORT,),
        _fields("splits.json", val=[{"name": "cat/x.jpg", "sha256": "0" * 64, "label": "unicorn"}]),
    ),
    "splits-that-lead-out": (
        (EXPORT,),
        _fields("splits.json", val=[{"name": "../../../../etc/passwd", "sha256": "0" * 64, "label": "cat"}]),
    ),
}  # fmt: skip
DAMAGED = tuple(
    Entry(name, commands, make, (2, 3), leaves=("tmp/*",)) for name, (commands, make) in RECORDS.items()
)
MEASURED = (
    Entry(
        "bench-run-json-missing",
        (BENCH,),
        RECORDS["run-json-missing"][1],
        (3,),
        leaves=("tmp/*", "place/bench-1*"),
        told_by_error=False,
    ),
)
"""A device that cannot be measured is an arm of the result that says why."""


def _checkpoint(name: str, change: Callable[[bytes], bytes | None]) -> Make:
    def make(stock: Stock, place: Path) -> None:
        path = _copied(stock.unfinished(), place) / "checkpoint" / name
        content = change(path.read_bytes())
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    return make


def _settings(**fields: Any) -> Make:
    def change(data: bytes) -> bytes:
        document = json.loads(data)
        document["settings"] |= fields
        return json.dumps(document).encode()

    return _checkpoint("settings.json", change)


def _empty_folder(stock: Stock, place: Path) -> None:
    (place / RUN).mkdir()


def _file_called_run(stock: Stock, place: Path) -> None:
    (place / RUN).write_bytes(b"no folder")


def _checkpoint_is_a_file(stock: Stock, place: Path) -> None:
    (place / RUN).mkdir()
    (place / RUN / "checkpoint").write_bytes(b"no folder")


def _unfinished(stock: Stock, place: Path) -> None:
    _copied(stock.unfinished(), place)


def _model_files(content: bytes) -> Make:
    def make(stock: Stock, place: Path) -> None:
        (place / RUN).mkdir()
        for name in ("model.onnx", "model.int8.onnx"):
            (place / RUN / name).write_bytes(content)

    return make


def _without_one_of_the_best(data: bytes) -> bytes:
    """The header is shorter by a tensor of the best network; the offsets of the others stay."""
    from safetensors.numpy import load, save

    tensors = load(data)
    del tensors[max(name for name in tensors if name.startswith("best/"))]
    length = int.from_bytes(data[:8], "little")
    progress = json.loads(data[8 : 8 + length])["__metadata__"]
    return bytes(save(tensors, progress))


STATE = "state.safetensors"
UNFINISHED: dict[str, Make] = {
    "state-without-one-of-the-best": _checkpoint(STATE, _without_one_of_the_best),
    "settings-missing": _checkpoint("settings.json", _gone),
    "settings-empty": _checkpoint("settings.json", lambda data: b""),
    "settings-cut-off": _checkpoint("settings.json", lambda data: data[:50]),
    "settings-a-list": _checkpoint("settings.json", lambda data: b"[]"),
    "settings-text": _checkpoint("settings.json", lambda data: b'"settings"'),
    "settings-not-utf-8": _checkpoint("settings.json", lambda data: b'{"settings": "\xe9"}'),
    "settings-without-values": _checkpoint("settings.json", lambda data: b'{"settings": {}, "data_sha256": ""}'),
    "settings-of-a-number": _checkpoint("settings.json", lambda data: b'{"settings": 5, "data_sha256": 5}'),
    "model-unknown": _settings(model="efficientnet_b99"),
    "epochs-text": _settings(epochs="many"),
    "batch-size-0": _settings(batch_size=0),
    "device-unknown": _settings(device="abacus"),
    "device-not-here": _settings(device="cuda:7"),
    "photographs-gone": _settings(data="/nonexistent/photographs"),
    "photographs-are-others": _settings(data="."),
    "weights-gone": _settings(weights="/nonexistent/weights.safetensors"),
    "data-hash-another": _checkpoint(
        "settings.json", lambda data: json.dumps(json.loads(data) | {"data_sha256": "0" * 64}).encode()
    ),
    "metrics-not-utf-8": _checkpoint("../metrics.jsonl", lambda data: b"{\xe9" + data),
    "metrics-a-list": _checkpoint("../metrics.jsonl", lambda data: b"[]\n"),
    "state-empty": _checkpoint(STATE, lambda data: b""),
    "state-cut-off": _checkpoint(STATE, lambda data: data[: len(data) // 2]),
    "state-of-zeros": _checkpoint(STATE, lambda data: bytes(4000)),
    "state-of-another-run": _checkpoint(STATE, _of_other_network),
}
RESUMED = tuple(
    Entry(f"resume-{name}", (RESUME,), make, (2, 3), leaves=("tmp/*",)) for name, make in UNFINISHED.items()
)

NOT_DEPLOYED: tuple[Words, ...] = (
    ("card", RUN),
    predict(GOOD, model=RUN),
    camera(GOOD, model=RUN),
    ("bench", RUN, "--device", "ort:cpu", "--rounds", "1"),
)
FOLDERS = (
    Entry("nothing-there", (*READERS, RESUME, *NOT_DEPLOYED), nothing, (2, 3), leaves=("tmp/*",)),
    Entry("empty-folder", (*READERS, RESUME, *NOT_DEPLOYED), _empty_folder, leaves=("tmp/*",)),
    Entry("a-file", (*READERS, RESUME, *NOT_DEPLOYED), _file_called_run, leaves=("tmp/*",)),
    Entry("checkpoint-is-a-file", (*READERS, RESUME), _checkpoint_is_a_file, leaves=("tmp/*",)),
    Entry("unfinished", (*READERS, *NOT_DEPLOYED), _unfinished, leaves=("tmp/*",)),
    Entry("model-files-empty", NOT_DEPLOYED, _model_files(b"")),
    Entry("model-files-of-zeros", NOT_DEPLOYED, _model_files(bytes(10_000))),
)

ENTRIES = (*DAMAGED, *MEASURED, *RESUMED, *FOLDERS)
