"""Values of the options of `edgetl camera`: sizes, formats of pixels, and addresses from files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

MAX_SOURCE = 4096
"""How many characters of a source are read from a file."""


class Size(click.ParamType[tuple[int, int]]):
    """Width and height, as in `1280x720`."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", str(value))
        if not match:
            self.fail(f"{value!r} is no size such as 1280x720", param, ctx)
        return int(match[1]), int(match[2])


class PixelFormat(click.ParamType[str]):
    """Four letters, as in `MJPG` or `YUYV`."""

    name = "CODE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        code = str(value).upper()
        if not re.fullmatch(r"[A-Z0-9 ]{4}", code):
            self.fail(f"{value!r} is no code of four letters such as MJPG", param, ctx)
        return code


def no_model(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse `--web model.onnx`, which would take the model for a host."""
    if value and Path(value).exists():
        raise click.BadParameter(f"{value} is a file or folder; MODEL goes before --web", ctx, param)
    return value


def read_address(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The source or address itself, or the content of FILE for `@FILE`."""
    if value is None or not value.startswith("@") or Path(value).exists():
        return value
    try:
        with Path(value[1:]).open(encoding="utf-8") as file:  # which may be a pipe: @<(pass show camera)
            source = file.read(MAX_SOURCE).strip()
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{value[1:]} cannot be read: {error}", ctx, param) from None
    if not source.isprintable():
        raise click.BadParameter(f"{value[1:]} holds more than one {param.name}, or none", ctx, param)
    return source
