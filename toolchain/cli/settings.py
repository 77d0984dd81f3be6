"""The options of a command, made from the annotated fields of its settings (`toolchain.system.options`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from toolchain.cli.sections import SectionedOption
from toolchain.system.options import Setting, settings_of

_Command = TypeVar("_Command", bound=Callable[..., Any])


def options_from(
    settings: type, *, types: Mapping[str, Any] | None = None, completions: Mapping[str, Any] | None = None
) -> Callable[[_Command], _Command]:
    """Decorate a command with an option for each setting; it is called with their values by name.

    What a recipe may set is None where it was not given. `types` are those of click that go before the fields' own,
    `completions` complete values for the shell.
    """

    def decorate(command: _Command) -> _Command:
        for setting in reversed(settings_of(settings)):
            decorator = click.option(
                setting.words,
                setting.name,
                cls=SectionedOption,
                section=setting.option.section,
                aliases=[f"--{setting.option.former.replace('_', '-')}"] if setting.option.former else [],
                help=setting.option.help,
                shell_complete=(completions or {}).get(setting.name),
                **_keywords(setting, (types or {}).get(setting.name)),
            )
            command = decorator(command)
        return command

    return decorate


def _keywords(setting: Setting, type_: Any) -> dict[str, Any]:
    if setting.kind is bool:
        return {"is_flag": True, "flag_value": not setting.default, "default": setting.default}
    keywords: dict[str, Any] = {"metavar": setting.option.metavar}
    keywords["type"] = type_ or (click.Choice(setting.choices) if setting.choices else setting.kind)
    if setting.choices:
        keywords.pop("metavar")
    if not setting.option.recipe and setting.default is not None:
        keywords |= {"default": setting.default, "show_default": True}
    return keywords
