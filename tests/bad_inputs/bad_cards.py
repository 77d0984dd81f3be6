"""Model files whose card is wrong, or holds names that are odd."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import onnx

from tests.bad_inputs.bad_artifacts import ALL, ANSWER, BAD, CARD, changed_model
from tests.bad_inputs.entry import GOOD, Entry, Make, camera
from toolchain.artifact import CARD_KEY

MISSING = object()


def _card_text(change: Callable[[str], str]) -> Make:
    def changed(model: onnx.ModelProto) -> None:
        entry = next(one for one in model.metadata_props if one.key == CARD_KEY)
        entry.value = change(entry.value)

    return changed_model(changed)


def _card(**fields: Any) -> Make:
    """The good card with other values; a dot in a name is written as two underscores."""

    def changed(text: str) -> str:
        card = json.loads(text)
        for name, value in fields.items():
            inner, _, key = name.rpartition("__")
            place = card[inner] if inner else card
            if value is MISSING:
                del place[key]
            else:
                place[key] = value
        return json.dumps(card)

    return _card_text(changed)


SHA = "0" * 64
CARDS: dict[str, dict[str, Any]] = {
    "temperature-0": {"temperature": 0},
    "temperature-negative": {"temperature": -1.5},
    "temperature-too-high": {"temperature": 1e9},
    "temperature-text": {"temperature": "1.0"},
    "temperature-null": {"temperature": None},
    "labels-none": {"labels": []},
    "labels-one": {"labels": ["red"]},
    "labels-too-few": {"labels": ["red", "green"]},
    "labels-too-many": {"labels": ["red", "green", "blue", "grey"]},
    "labels-twice": {"labels": ["red", "green", "red"]},
    "labels-empty-name": {"labels": ["red", "", "blue"]},
    "labels-long-name": {"labels": ["red", "g" * 300, "blue"]},
    "labels-numbers": {"labels": [1, 2, 3]},
    "labels-text": {"labels": "red green blue"},
    "labels-object": {"labels": {"0": "red"}},
    "preprocess-missing": {"preprocess": None},
    "height-0": {"preprocess__height": 0},
    "height-negative": {"preprocess__height": -32},
    "height-huge": {"preprocess__height": 1_000_000, "preprocess__shortest_edge": 1_000_000},
    "height-of-another-network": {"preprocess__height": 16},
    "height-fraction": {"preprocess__height": 31.5},
    "shortest-edge-too-small": {"preprocess__shortest_edge": 8},
    "resize-unknown": {"preprocess__resize": "stretch"},
    "interpolation-unknown": {"preprocess__interpolation": "lanczos"},
    "colour-bgr": {"preprocess__colour": "BGR"},
    "precision-unknown": {"precision": "int4"},
    "precision-int8-without-recipe": {"precision": "int8"},
    "recipe-in-float": {"recipe": {"quantiser": "none", "settings": {}}},
    "accuracy-number": {"accuracy": 0.9},
    "accuracy-of-no-photographs": {
        "accuracy": [
            {
                "device": "ort:cpu", "precision": "float32", "split": "test", "split_sha256": SHA, "n": 0,
                "top1": 0.5, "per_class_top1": 0.5,
            }
        ]
    },
    "accuracy-above-1": {
        "accuracy": [
            {
                "device": "ort:cpu", "precision": "float32", "split": "test", "split_sha256": SHA, "n": 9,
                "top1": 90, "per_class_top1": 0.5,
            }
        ]
    },
    "split-hash-short": {"splits": {"test": "abc"}},
    "split-hash-upper-case": {"splits": {"test": "A" * 64}},
    "reject-unknown-score": {"reject": {"score": "feeling", "threshold": 0.5}},
    "reject-above-1": {"reject": {"score": "max_probability", "threshold": 1.5}},
    "reject-number": {"reject": 0.5},
    "source-null": {"source": None},
    "source-without-model": {"source__model": MISSING},
    "licences-list": {"source__licences": ["MIT"]},
    "runtimes-numbers": {"runtimes": [1]},
    "input-frame-for-an-image": {"input": "frame"},
    "input-unknown": {"input": "tensor"},
    "schema-of-tomorrow": {"schema": "edgetl.card/2"},
    "schema-number": {"schema": 1},
    "schema-missing": {"schema": MISSING},
    "labels-missing": {"labels": MISSING},
    "splits-missing": {"splits": MISSING},
    "version-number": {"edgetl_version": 0.1},
}  # fmt: skip
WRONG_CARDS = tuple(Entry(name, ALL[:3], _card(**fields), says=BAD) for name, fields in CARDS.items())

TEXTS: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "null": lambda text: "null",
    "list": lambda text: "[]",
    "number": lambda text: "1e999",
    "cut-off": lambda text: text[:100],
    "temperature-nan": lambda text: text.replace('"temperature":1.0', '"temperature":NaN'),
    "not-json": lambda text: "schema = edgetl.card/1",
    "twice-in-one": lambda text: text * 2,
    "100000-deep": lambda text: "[" * 100_000,
    "100000-deep-closed": lambda text: '{"schema":"edgetl.card/1","labels":' + "[" * 100_000 + "]" * 100_000 + "}",
    "five-megabytes": lambda text: text + " " * (5 << 20),
    "lone-surrogate": lambda text: text.replace('"red"', '"\\ud800"'),
}
WRONG_TEXTS = tuple(Entry(name, (CARD, ANSWER), _card_text(of), says=BAD) for name, of in TEXTS.items())

ODD_LABELS: dict[str, list[str]] = {
    "markup": ["[bold]", "[/bold]", "[link=file:///etc/passwd]x[/link]"],
    "control-characters": ["\x1b[2J\x1b[31mred", "a\rb", "c\x07"],
    "line-breaks": ["red\ngreen", "\n", "\t"],
    "right-to-left": ["\u202ecod", "\u200b", "\ufeff"],
    "other-scripts": ["赤", "חתול", "🐈"],
    "formulas": ["=1+1", "@SUM(A1)", "-"],
    "html": ["<script>alert(1)</script>", "&amp;", "'\""],
    "spaces": [" ", "  ", "   "],
}
LABELS = tuple(
    Entry(f"named-{name}", (CARD, ANSWER, camera(GOOD, model=BAD)), _card(labels=labels), (0, 2))
    for name, labels in ODD_LABELS.items()
)

ENTRIES = (*WRONG_CARDS, *WRONG_TEXTS, *LABELS)
