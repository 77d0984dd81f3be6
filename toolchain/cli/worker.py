"""`edgetl worker`: what `--on` of another machine starts here, over ssh."""

from __future__ import annotations

import sys

import click


@click.command(hidden=True, help="Answer another machine's edgetl (`--on`) over stdin and stdout.")
def command() -> None:
    from toolchain.errors import BadInputError

    if sys.stdin.isatty():
        raise BadInputError(
            "`edgetl worker` answers another edgetl, not a person", "Start it there: edgetl bench MODEL --on THIS"
        )
    from toolchain.timing import hub

    hub.main()
