"""`edgetl explain`: what a network looks for, where it looks, and what fools it."""

from __future__ import annotations

import sys

from toolchain.cli import COMMANDS, LazyGroup
from toolchain.cli.console import Console
from toolchain.system import masking

SUMMARIES: dict[str, str] = {
    "attack": "Change a photograph a little, until a network takes it for something else.",
    "features": "Show how the layers of a network respond to a picture.",
    "ideal": "Draw the picture that a network finds most typical of a class.",
    "why": "Show where a network looked when it named a photograph.",
}
"""Name and one-line help. The help is here so that `edgetl explain --help` imports no command."""

command: LazyGroup = LazyGroup(
    name="explain", package="toolchain.cli.explain", summaries=SUMMARIES, help=COMMANDS["explain"]
)


def command_line() -> str:
    """What was typed. The page shows how it was made."""
    return masking.command(["edgetl", *sys.argv[1:]])


def tell_no_page(console: Console) -> None:
    """Warn if pictures were written, but no page."""
    from toolchain.explain.gallery import has_page
    from toolchain.system.installation import install

    if not has_page():
        console.warn(f"no page was written: {install('report')}")
