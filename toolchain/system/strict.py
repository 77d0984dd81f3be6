"""JSON and plain data into typed dataclasses, strictly, from any number of threads.

msgspec finds out what a type holds when it first meets it, and keeps that with the type; threads that meet it at
the same time crash the interpreter. So each type is met once, by one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_meeting = Lock()


def decode(data: bytes | str, type: type[_T]) -> _T:
    """JSON as `type`. Raises msgspec.DecodeError, which names the field that is wrong."""
    with one_error():
        found: _T = _decoder(type).decode(data)
    return found


def convert(value: Any, type: type[_T], *, str_keys: bool = False) -> _T:
    """Plain data as `type`. Raises msgspec.ValidationError, which names the field that is wrong.

    With `str_keys`, keys are texts, as in JSON, whatever the type's are.
    """
    _decoder(type)
    return msgspec.convert(value, type=type, str_keys=str_keys)


@contextmanager
def one_error() -> Iterator[None]:
    """Have whatever is wrong with a document told as msgspec.DecodeError.

    Of bytes that are no text, and of too many brackets in one another, msgspec raises Python's own errors.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"it is not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


def _decoder(type: Any) -> msgspec.json.Decoder[Any]:
    found = _decoders.get(type)
    if found is None:
        # Types hold one another, so one lock for all of them.
        with _meeting:
            found = _decoders.setdefault(type, msgspec.json.Decoder(type))
    return found
