"""The type of options that take a number which need not be whole; those of training are checked by its settings."""

from __future__ import annotations

import math
from typing import Any

import click


class Finite(click.FloatRange):
    """A range that does not let `nan` and `inf` pass: neither is below a limit, nor above one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number to reckon with", param, ctx)
        return number
