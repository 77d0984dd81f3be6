"""Every error about a document is one kind of error, however the document is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pytest

from toolchain.system import files, strict


@dataclass(frozen=True)
class Document:
    schema: Literal["edgetl.test/1"]
    numbers: tuple[float, ...] = ()
    more: dict[str, Any] | None = None


BEGIN = b'{"schema": "edgetl.test/1", '
WRONG: dict[str, bytes] = {
    "half a character for a fixed word": b'{"schema": "\\\\udce9"}',
    "half a character as a key": b'{"\\\\udce9": 1}',
    "not UTF-8": b'{"schema": "\xff"}',
    "not UTF-8, with an escape": b'{"schema": "\xff\\\\udce9"}',
    "nested 100,000 deep": BEGIN + b'"more": {"a": ' + b"[" * 100_000,
    "nested 100,000 deep, with an escape": BEGIN
    + b'"more": {"\\\\udce9": '
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}}",
    "a number of 5,000 digits": BEGIN + b'"numbers": [' + b"9" * 5000 + b"]}x",
    "a number of 5,000 digits, with an escape": BEGIN + b'"more": {"\\\\udce9": ' + b"9" * 5000 + b"}}x",
    "infinity": BEGIN + b'"numbers": [Infinity]}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "empty": b"",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_document_is_a_decode_error(name: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        files.from_json(WRONG[name], Document)


def test_plain_data_too() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in ({"schema": "\udce9"}, {"schema": "edgetl.test/1", "numbers": [None]}, deep):
        with pytest.raises(msgspec.ValidationError):
            strict.convert(value, Document)
