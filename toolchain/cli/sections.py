"""Options under headings: a long `--help` that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click


class SectionedOption(click.Option):
    """An option that `--help` shows under the heading `section`, below those that have none.

    `aliases` are former names, which go on working and are not shown.
    """

    opts: list[str]

    def __init__(self, *arguments: Any, section: str, aliases: Sequence[str] = (), **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.section = section
        self.aliases: list[str] = list(aliases)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        shown = self.opts
        self.opts = [*shown, *self.aliases]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown


class SectionedCommand(click.Command):
    """A command whose `--help` shows plain options first, then each section in the order of its first option."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record:
                section = getattr(parameter, "section", "") or "Options"
                rows.setdefault(section, []).append(record)
        for section, records in rows.items():
            with formatter.section(section):
                formatter.write_dl(records)
