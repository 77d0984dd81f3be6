"""Options under headings: a long `--help` that can be read."""

from __future__ import annotations

from typing import Any

import click


class SectionedOption(click.Option):
    """An option that `--help` shows under the heading `section`, below those that have none."""

    def __init__(self, *arguments: Any, section: str, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose `--help` shows plain options first, then each section in the order of its first option."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record:
                section = parameter.section if isinstance(parameter, SectionedOption) else "Options"
                rows.setdefault(section, []).append(record)
        for section, records in rows.items():
            with formatter.section(section):
                formatter.write_dl(records)
