r"""Text for people and for files: names that are not plain text, and figures.

Names hold bytes of old archives that are not UTF-8, line breaks, and escape sequences for terminals. Python keeps
a byte that is not UTF-8 as a lone surrogate (PEP 383: é of Latin-1 is `\udce9`). JSON, CSV and HTML cannot hold
that. It is written as the six characters `\udce9`, as Python shows it on a terminal, and read back as the
surrogate. A name that really contains such six characters gets its backslash written as `\u005c`. So each name has
one written form, and each written form belongs to one name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_LONE = re.compile(r"[\ud800-\udfff]")
_LIKE_LONE = re.compile(r"\\(?=(?:u005c)*ud[89a-f][0-9a-f]{2})")
_WRITTEN = re.compile(r"\\(?:u005c(?=(?:u005c)*ud[89a-f][0-9a-f]{2})|(ud[89a-f][0-9a-f]{2}))")
_STEERING = "\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
"""Control characters, separators of lines and paragraphs, and marks that turn the direction of text."""
_UNSEEN = re.compile(f"[{_STEERING}\u061c\u200b-\u200f\u2060-\u206f\ufeff\ud800-\udfff]")
"""These, invisible ones, and halves of characters."""
_IN_JSON = re.compile(_UNSEEN.pattern.replace("\x00-\x1f", ""))
"""JSON's own line breaks stay."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escaped(text: str) -> str:
    """`text` without lone surrogates, so that it can be encoded; see above."""
    text = _LIKE_LONE.sub(r"\\u005c", text)
    return _LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def unescaped(text: str) -> str:
    """What `escaped` was given."""
    if "\\" not in text:
        return text
    return _WRITTEN.sub(lambda found: chr(int(found[1][1:], 16)) if found[1] else "\\", text)


def is_encodable(text: str) -> bool:
    """Whether `text` can be written as UTF-8, which libraries written in C need."""
    return not _LONE.search(text)


def harmless(text: str, *, keep: str = "") -> str:
    r"""`text` for a person, at a terminal or on a page: the one way out for what others have written.

    Characters that are invisible, or that steer a terminal, are written as codes such as `\x1b`; so are bytes that
    are no UTF-8. Those in `keep` stay.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else _code(found[0]), text)


def harmless_json(document: str) -> str:
    """`harmless` for JSON, as another spelling of the same document (RFC 8259, section 7)."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def harmless_cell(text: str) -> str:
    """`text` for a cell of a CSV file: spreadsheets would compute one that begins as a formula does."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def harmless_markdown(text: str) -> str:
    """`harmless` for a line, or a cell, of Markdown: no HTML, no links, no further columns."""
    text = " ".join(harmless(text, keep="\n\t").split())
    return re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;").replace("|", "\\|").replace("](", "]\\(")


def is_printable(text: str) -> bool:
    """Whether nothing in `text` steers a terminal or breaks a line. Scripts need other invisible characters."""
    return not re.search(f"[{_STEERING}]", text)


def folded(name: str) -> str:
    """A name in which letters' case, their form in Unicode, spaces, `-` and `_` do not matter."""
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").replace("-", " ").casefold().split())


def apply(function: Any, value: Any) -> Any:
    """Plain data (dictionaries, lists, strings, numbers) with `function` applied to each string in it."""
    if isinstance(value, str):
        return function(value)
    if isinstance(value, (list, tuple)):
        return [apply(function, one) for one in value]
    if isinstance(value, Mapping):
        return {apply(function, key): apply(function, one) for key, one in value.items()}
    return value


def fixed(value: float, digits: int, *, plus: bool = False) -> str:
    """`value` with so many `digits` after the point. What rounds to zero has no sign; with `plus`, all else has."""
    text = f"{value:+.{digits}f}" if plus else f"{value:.{digits}f}"
    return text if float(text) else text.lstrip("+-")


def percent(share: float, digits: int, *, plus: bool = False) -> str:
    """A fraction in percent, as `fixed` writes it: "+3.0%"."""
    return f"{fixed(100 * share, digits, plus=plus)}%"


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
