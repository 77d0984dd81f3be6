"""Write docs/reference/commands.md from the commands themselves: `python docs/make_commands.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from toolchain.cli import root

TARGET = Path(__file__).parent / "reference" / "commands.md"


def pages(command: click.Command, context: click.Context) -> Iterator[str]:
    """The help of `command` and of all commands below it."""
    yield f"## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from pages(below, click.Context(below, info_name=name, parent=context, terminal_width=100))


def reference() -> str:
    """The whole page."""
    context = click.Context(root, info_name="edgetl", terminal_width=100, **root.context_settings)
    links = "[the command line](command-line.md) and [exit codes](exit-codes.md)"
    head = f"# Commands\n\nWhat holds for all of them: {links}.\n"
    return "\n".join([head, *pages(root, context)])


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
