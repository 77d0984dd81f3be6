"""Strict conversion of JSON and plain data to typed dataclasses, safe in any number of threads.

msgspec inspects a type when it first sees it, and stores what it found with the type. Threads that do this at the
same time crash the interpreter. So one thread does it, once for each type.
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
    """Decode JSON as `type`. Raises msgspec.DecodeError, which names the wrong field."""
    with one_error():
        found: _T = _decoder(type).decode(data)
    return found


def convert(value: Any, type: type[_T], *, str_keys: bool = False) -> _T:
    """Convert plain data to `type`. Raises msgspec.ValidationError, which names the wrong field.

    With `str_keys`, keys are strings, as in JSON, whatever the type says.
    """
    _decoder(type)
    with one_error():
        return msgspec.convert(value, type=type, str_keys=str_keys)


@contextmanager
def one_error() -> Iterator[None]:
    """Turn every error about a document into msgspec.ValidationError, which is a DecodeError.

    For text that is not UTF-8 (or has halves of characters, where a fixed word is wanted), and for what is nested
    too deeply, msgspec raises Python's own errors; so does a dataclass for numbers that it cannot convert.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise msgspec.ValidationError(f"it is not UTF-8 text (byte {error.start})") from None
    except UnicodeEncodeError:
        raise msgspec.ValidationError("it holds half a character") from None
    except RecursionError:
        raise msgspec.ValidationError("it is nested too deeply") from None
    except (OverflowError, ZeroDivisionError):
        raise msgspec.ValidationError("it holds a number that is too large") from None


def _decoder(type: Any) -> msgspec.json.Decoder[Any]:
    found = _decoders.get(type)
    if found is None:
        # One lock for all types, since they contain each other.
        with _meeting:
            found = _decoders.setdefault(type, msgspec.json.Decoder(type))
    return found
