"""`edgetl explain`: what a network looks for, where it looks, and what fools it."""

from __future__ import annotations

from toolchain.cli import COMMANDS, LazyGroup

SUMMARIES: dict[str, str] = {
    "attack": "Change a photograph a little, until a network takes it for something else.",
    "features": "Show what the layers of a network make of a picture.",
    "ideal": "Draw what a network takes for the ideal picture of a class.",
    "why": "Show where a network looked when it named a photograph.",
}
"""Name and one-line help; the help stands here so that `edgetl explain --help` imports no command."""

command: LazyGroup = LazyGroup(
    name="explain", package="toolchain.cli.explain", summaries=SUMMARIES, help=COMMANDS["explain"]
)
