"""Classes by the names that people type. No torch in here."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from toolchain.errors import BadInputError


def class_index(labels: Sequence[str], name: str) -> int:
    """The place of the class that a person calls `name`; letters' case, spaces, `-` and `_` do not matter.

    Raises BadInputError that suggests the nearest name.
    """
    folded = [_folded(label) for label in labels]
    wanted = _folded(name)
    exact = [index for index, label in enumerate(labels) if label == name]
    found = exact or [index for index, label in enumerate(folded) if label == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInputError(f"{name!r} is the name of {len(found)} classes", "Write it exactly as one of them.")
    near = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.5)
    hint = f"Do you mean {labels[folded.index(near[0])]!r}?" if near else f"Classes: {', '.join(labels)}."
    raise BadInputError(f"there is no class {name!r}", hint)


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
