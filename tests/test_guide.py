"""Every `edgetl` line of the guide and the README is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from toolchain.cli import root
from toolchain.errors import EdgetlError

ROOT = Path(__file__).parent.parent
HOW_TO = tuple(sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "how-to").glob("*.md")))
PAGES = ("README.md", "docs/tutorial/guide.md", "docs/tutorial/lesson.py", *HOW_TO)
PROGRAM = "edgetl"


def lines_of(page: str) -> Iterator[str]:
    """The `edgetl ...` commands of a page: in indented or fenced code, and in `code` within a line."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".py"):
        text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    for found in re.finditer(
        r"^(?:    |\$ )(?:.*&& )?(edgetl [a-z-].*)$|`(edgetl [a-z-][^`]+)`", text, re.MULTILINE
    ):
        # What follows two spaces or a hash in a list of commands says what the command does.
        line = re.split(r"\s{2,}|\s[#|]\s", found[1] or found[2])[0].strip()
        if found[1] or len(line.split()) > 2:  # `edgetl bench` within a sentence is the command's name
            yield line


def parse(words: list[str]) -> None:
    """Parse as click would before it calls the command; raises click.ClickException for what it does not know."""
    command: click.Command = root
    # With the settings of the program: click keeps what it once made of them, for other tests too.
    context = click.Context(root, info_name=PROGRAM, **root.context_settings)
    while isinstance(command, click.Group):
        if not words:
            raise click.UsageError(f"{context.command_path} needs a command")
        name, words = words[0], words[1:]
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no such command: {name}")
        command = found
        context = click.Context(command, info_name=name, parent=context)
    command.parse_args(context, list(words))


CASES = [(page, line) for page in PAGES for line in lines_of(page)]


@pytest.mark.parametrize(("page", "line"), CASES, ids=lambda text: text[:60])
def test_a_command_of_the_pages_parses(page: str, line: str) -> None:
    parse(shlex.split(line)[1:])


def test_the_pages_hold_commands() -> None:
    pages = [page for page, _ in CASES]
    assert pages.count("README.md") >= 6
    assert sum(pages.count(page) for page in HOW_TO) > 30
    assert pages.count("docs/tutorial/guide.md") > 25
    assert pages.count("docs/tutorial/lesson.py") >= 5


@pytest.mark.parametrize(
    "line",
    [
        "edgetl finetune photos --no-such-option",
        "edgetl finetune photos --optimizer lion",
        "edgetl data inspect pets",
        "edgetl explain dream RUN",
        "edgetl export",
    ],
)
def test_the_parser_of_this_test_refuses_what_is_wrong(line: str) -> None:
    with pytest.raises((click.ClickException, EdgetlError)):
        parse(shlex.split(line)[1:])
