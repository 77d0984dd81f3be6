"""Options of commands: under headings, of finite numbers, made from fields of settings; and their completion."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from toolchain.cli.model_argument import READY_MADE, ModelName, completions, published_names
from toolchain.errors import BadInputError, EdgetlError
from toolchain.system.options import Setting, settings_of

_Command = TypeVar("_Command", bound=Callable[..., Any])


def is_given(name: str) -> bool:
    """Whether the option or argument was typed, and is not its default."""
    return click.get_current_context().get_parameter_source(name) == ParameterSource.COMMANDLINE


def refuse_without(wanted: str, *names: str) -> None:
    """Raise BadInputError where one of the options `names` was typed: without `wanted` it would be ignored."""
    for option in _given(names):
        raise BadInputError(f"{option} does nothing without {wanted}", f"Add {wanted}, or leave it out.")


def refuse_with(other: str, *names: str, hint: str = "Leave one of the two out.") -> None:
    """Raise BadInputError where one of the options `names` was typed: beside `other` it would be ignored."""
    for option in _given(names):
        raise BadInputError(f"{option} does nothing with {other}", hint)


def _given(names: Sequence[str]) -> list[str]:
    """Those of the options `names` that were typed, as they are typed."""
    parameters = click.get_current_context().command.params
    return [one.opts[0] for one in parameters if one.name in names and is_given(one.name)]


class Finite(click.FloatRange):
    """A range that refuses `nan` and `inf`, which click's comparisons with its limits let pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class SectionedOption(click.Option):
    """An option that `--help` shows under the heading `section`, below those that have none.

    `aliases` are former names, which go on working and are not shown.
    """

    opts: list[str]  # An override without its type is ambiguous to `pyright --verifytypes`.

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
    if setting.repeated:
        return keywords | {"multiple": True}
    if not setting.option.recipe and setting.default is not None:
        keywords |= {"default": setting.default, "show_default": True}
    return keywords


def complete_models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return completions(published_names(), incomplete)


def complete_data_sets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of data sets, and folders."""
    from toolchain.datasets.catalogue import DATASETS

    # In this order: for a folder or a file, bash forgets the words that came before.
    return [CompletionItem(incomplete, type="dir"), *completions(DATASETS.names(), incomplete)]


def complete_weights(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    names = ("imagenet", "imagenet-v1", "ready-made", "none")
    return [CompletionItem(incomplete, type="file"), *completions(names, incomplete)]


def features_options(command: _Command) -> _Command:
    """`--model` and `--weights`: whose features photographs are looked at with."""
    weights = click.option(
        "--weights",
        default="imagenet",
        show_default=True,
        metavar="FILE|imagenet|imagenet-v1|ready-made",
        shell_complete=complete_weights,
        help="Its weights, as `finetune` takes them.",
    )
    model = click.option(
        "--model",
        default="mobilenet_v2",
        show_default=True,
        metavar="NAME",
        shell_complete=complete_models,
        help="The network whose features are used.",
    )
    return model(weights(command))


def complete_devices(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from toolchain.runtimes.devices import known_devices

    return completions(known_devices(), incomplete)


def complete_classes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The classes of the network on the line, or of the ready-made one."""
    # As long as the value is missing, click has not yet assigned the arguments.
    words = [context.params.get("model"), *context.args]
    named = next((str(word) for word in words if word), READY_MADE)
    with suppress(EdgetlError):
        return completions(ModelName.of(named).labels(), incomplete)
    return []


device_option = click.option(
    "--device",
    metavar="DEVICE",
    shell_complete=complete_devices,
    help="Default: what export or bench recommends for a run folder on this CPU, else ort:cpu; openvino:CPU for an "
    "OpenVINO file (.xml), litert:cpu for a LiteRT file (.tflite).",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), help="Default: as many as can run at once."
)
"""Where a model file runs. Commands that only measure or explain say it in other words."""


def on_option(verb: str) -> Callable[[_Command], _Command]:
    """The option `--on MACHINE`, by which a command does what `verb` says on other machines too."""
    return click.option(
        "--on",
        multiple=True,
        default=("local",),
        metavar="MACHINE",
        help=f"{verb} on this machine: local, or [user@]host as ssh knows it, where edgetl must be installed; can "
        "be given again. Default: local.",
    )


def viewer_options(option: Callable[..., Any] = click.option) -> Callable[[_Command], _Command]:
    """`--web-token` and `--web-host`: who may look at a page. `option` makes each of them."""
    token = option(
        "--web-token",
        envvar="EDGETL_WEB_TOKEN",
        metavar="TOKEN",
        help="The token that viewers from other machines must know: 16 to 256 letters, digits or signs. Default: "
        "one is made and printed. Also in the variable EDGETL_WEB_TOKEN.",
    )
    hosts = option(
        "--web-host",
        "web_hosts",
        multiple=True,
        metavar="NAME",
        help="A host name by which viewers may ask without a token, such as that of a proxy. Can be repeated.",
    )

    def decorate(command: _Command) -> _Command:
        decorated: _Command = token(hosts(command))
        return decorated

    return decorate
