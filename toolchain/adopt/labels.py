"""Names of classes in a text file: one on each line, in the order of the network's outputs."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

from toolchain.errors import BadInputError
from toolchain.system import files
from toolchain.system.text import is_encodable, is_printable

MAX_BYTES = 8 << 20
MAX_LENGTH = 256
"""As the card has it."""


def fault(name: str) -> str:
    """What is wrong with `name` as that of a class, in words; empty where nothing is."""
    if not name.strip():
        return "is empty"
    if not is_encodable(name):
        return "is no text"
    if len(name) > MAX_LENGTH:
        return f"has more than {MAX_LENGTH} characters"
    return "" if is_printable(name) else "holds a tab or another control character"


def read_labels(path: Path) -> tuple[str, ...]:
    """The names in a file. Lines that are empty at its end do not count.

    Raises BadInputError for a file that cannot be read or is no UTF-8 text, for fewer than two names, an empty one,
    one that is too long or holds control characters, and one that is there twice.
    """
    try:
        content = files.read_regular(path, MAX_BYTES)
        # As folders of classes are called, whatever wrote them: Macs take letters apart.
        text = unicodedata.normalize("NFC", content.decode("utf-8-sig"))
        lines = [line.strip() for line in text.rstrip().splitlines()]
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadInputError(f"{path} is not UTF-8 text", "Write one name on each line.") from None
    hint = "Write one name on each line, in the order of the network's outputs."
    if len(lines) < 2:
        raise BadInputError(f"{path} holds {len(lines)} names; a classifier has two at least", hint)
    for number, line in enumerate(lines, 1):
        if wrong := fault(line):
            raise BadInputError(f"{path}: line {number} {wrong}", hint)
    name, count = Counter(lines).most_common(1)[0]
    if count > 1:
        raise BadInputError(
            f"{path}: the name {name!r} is there {count} times", "Give each class a name of its own."
        )
    return tuple(lines)
