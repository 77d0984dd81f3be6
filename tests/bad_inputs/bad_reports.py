"""Files for `bench --compare` that are no bench.json, or another machine's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bad_inputs.entry import MODEL, Entry, Make, Stock, nothing, writes

OLD, NEW = "old.json", "new.json"
TWO_FILES = (("bench", NEW, "--compare", OLD),)
BOTH = (*TWO_FILES, ("bench", MODEL, "--compare", OLD, "--device", "ort:cpu", "--rounds", "1"))
MISSING = object()


def whole() -> dict[str, Any]:
    import msgspec

    from toolchain.bench.results import ArmAccuracy, ArmResult, BenchReport, Data
    from toolchain.evaluation.statistics import Latency
    from toolchain.runtimes.machine import Environment, LoadBefore

    machine = Environment(
        "A CPU", "x86_64", ("avx2",), 2, 4, 8000.0, None, "Linux", {"edgetl": "0"}, LoadBefore(0.1, None)
    )
    arm = ArmResult(
        artifact="run/model.onnx",
        sha256="0" * 64,
        precision="float32",
        device="ort:cpu",
        provider_effective="CPUExecutionProvider",
        threads=2,
        batch=1,
        status="ok",
        reason="",
        latency_ms=Latency(10, 8, 0.1, 7, 8, 9, 10, 11, 12, (7.9, 8.1)),
        throughput_ips=130.0,
        load_ms=20.0,
        first_ms=9.0,
        end_to_end_ms=11.0,
        peak_rss_mb=90.0,
        file_mb=9.05,
        accuracy=ArmAccuracy(0.9, 0.88, 100, 1.0, (0.83, 0.94), "1" * 90 + "0" * 10),
    )
    report = BenchReport("edgetl.bench/1", machine, Data("pets", "test", "a" * 64, 100, 1), (arm,), ())
    document: dict[str, Any] = json.loads(msgspec.json.encode(report))
    return document


def _old(change: Callable[[dict[str, Any]], object]) -> Make:
    """Two reports of the same run; one is changed."""

    def make(stock: Stock, place: Path) -> None:
        document = whole()
        (place / NEW).write_text(json.dumps(document))
        change(document)
        (place / OLD).write_text(json.dumps(document))

    return make


def _set(path: str, value: object) -> Make:
    def change(document: dict[str, Any]) -> None:
        *outer, key = (int(part) if part.isdecimal() else part for part in path.split("/"))
        place: Any = document
        for part in outer:
            place = place[part]
        if value is MISSING:
            del place[key]
        else:
            place[key] = value

    return _old(change)


def _text(change: Callable[[str], str | bytes]) -> Make:
    def make(stock: Stock, place: Path) -> None:
        text = json.dumps(whole())
        (place / NEW).write_text(text)
        writes(OLD, change(text))(stock, place)

    return make


TEXTS: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda text: "",
    "null": lambda text: "null",
    "a-list": lambda text: f"[{text}]",
    "cut-off": lambda text: text[: len(text) // 2],
    "twice": lambda text: text * 2,
    "not-utf-8": lambda text: text.replace("A CPU", "A CP\xe9").encode("latin-1"),
    "utf-16": lambda text: text.encode("utf-16"),
    "zeros": lambda text: bytes(500),
    "100000-deep": lambda text: '{"arms":' + "[" * 100_000,
    "with-nan": lambda text: text.replace("8.1", "NaN"),
    "with-infinity": lambda text: text.replace("8.1", "1e999"),
    "html": lambda text: "<html></html>",
    "of-a-package": lambda text: '{"name": "app", "version": "1.0.0"}',
    "a-card": lambda text: '{"schema": "edgetl.card/1", "labels": ["a", "b"]}',
}
CONTENTS = tuple(Entry(name, BOTH, _text(change), says=OLD) for name, change in TEXTS.items())

ARM, LATENCY = "arms/0", "arms/0/latency_ms"
VALUES: dict[str, tuple[str, object]] = {
    "schema-of-tomorrow": ("schema", "edgetl.bench/2"),
    "no-schema": ("schema", MISSING),
    "no-environment": ("environment", MISSING),
    "environment-null": ("environment", None),
    "cores-text": ("environment/cores", "two"),
    "versions-list": ("environment/versions", ["1"]),
    "no-arms": ("arms", []),
    "arms-null": ("arms", None),
    "arm-number": (ARM, 5),
    "arm-of-unknown-status": (f"{ARM}/status", "fine"),
    "arm-of-unknown-precision": (f"{ARM}/precision", "int4"),
    "arm-without-device": (f"{ARM}/device", MISSING),
    "latency-text": (LATENCY, "8 ms"),
    "latency-null-but-ok": (LATENCY, None),
    "latency-zero": (f"{LATENCY}/p50", 0),
    "latency-negative": (f"{LATENCY}/p50", -8),
    "interval-of-zeros": (f"{LATENCY}/p50_ci95", [0, 0]),
    "interval-negative": (f"{LATENCY}/p50_ci95", [-1, 8]),
    "interval-backwards": (f"{LATENCY}/p50_ci95", [8.1, 7.9]),
    "interval-of-three": (f"{LATENCY}/p50_ci95", [7, 8, 9]),
    "processes-of-zeros": (f"{ARM}/process_p50_ms", [0, 0, 0]),
    "batch-zero": (f"{ARM}/batch", 0),
    "quantiles-of-two": (f"{ARM}/quantiles_ms", [7, 8]),
    "accuracy-text": (f"{ARM}/accuracy", "good"),
    "answers-of-other-length": (f"{ARM}/accuracy/right", "1"),
    "answers-of-other-letters": (f"{ARM}/accuracy/right", "x" * 100),
    "another-cpu": ("environment/cpu", "Another CPU"),
    "another-cpu-with-markup": ("environment/cpu", "[bold]CPU[/wrong]"),
    "another-cpu-with-control-characters": ("environment/cpu", "\x1b[2J\x07CPU"),
    "more-cores": ("environment/cores", 64),
    "another-data-set": ("data/name", "cats-vs-dogs"),
    "no-data": ("data", None),
    "another-artifact": (f"{ARM}/artifact", "run/other.onnx"),
    "artifact-with-markup": (f"{ARM}/artifact", "run/[/]x.onnx"),
    "another-device": (f"{ARM}/device", "openvino:CPU"),
    "notes-number": ("warnings", 5),
}
WRONG = tuple(
    Entry(name, TWO_FILES, _set(path, value), (0, 1, 2), result_stays=True)
    for name, (path, value) in VALUES.items()
)


def _folder(stock: Stock, place: Path) -> None:
    _text(lambda text: text)(stock, place)
    (place / OLD).unlink()
    (place / OLD).mkdir()


def _circle(stock: Stock, place: Path) -> None:
    _text(lambda text: text)(stock, place)
    (place / OLD).unlink()
    (place / OLD).symlink_to(OLD)


FILES = (
    Entry("missing", BOTH[1:], nothing, says=OLD),
    Entry("both-missing", TWO_FILES, nothing, says=NEW),
    Entry("new-missing", (("bench", "gone.json", "--compare", OLD),), _text(lambda text: text), says="gone.json"),
    Entry("not-compared", (("bench", NEW),), _text(lambda text: text), says=NEW),
    Entry("a-folder", BOTH, _folder, says=OLD),
    Entry("a-circle-of-links", BOTH, _circle, says=OLD),
    Entry("dev-null", (("bench", MODEL, "--compare", "/dev/null"),), nothing, says="/dev/null"),
    Entry("a-model", (("bench", MODEL, "--compare", MODEL),), nothing, says=MODEL),
)

ENTRIES = (*CONTENTS, *WRONG, *FILES)
