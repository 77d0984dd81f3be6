"""Settings that are options of a command: dataclasses whose fields say what a person must know of them.

A field `dropout: Annotated[float, Meta(ge=0, lt=1), Option("Share of the features ...", "SHARE")] = 0.2` is the
option `--dropout SHARE`, and is checked by these bounds wherever it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import Meta

from toolchain.errors import BadInputError


@dataclass(frozen=True)
class Option:
    """How a setting is shown on the command line, and where else it may stand.

    `former` is the name that it had in earlier versions: its option, recipe key and stored settings are still read.
    `section` is the heading in `--help`; `recipe` whether a recipe may set it. `hint` says what to do about a value
    out of bounds. Only some of a field's values may be `choices` of the option.
    """

    help: str
    metavar: str | None = None
    section: str = ""
    recipe: bool = True
    former: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """A field of a class of settings, taken apart: `kind` is str, bool, int or float, `choices` those of a Literal.
    It is that of each value where the option may be `repeated`.

    `annotation` is the type with its bounds, without the option and without None.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    bounds: Meta | None
    annotation: Any
    option: Option
    default: Any
    repeated: bool = False

    @property
    def words(self) -> str:
        """The option that sets it: a switch that is on by default has one that turns it off."""
        return "--" + ("no-" if self.default is True else "") + self.name.replace("_", "-")

    def check(self, value: Any) -> None:
        """Raise BadInputError unless `value` lies within the bounds."""
        bounds = self.bounds
        if value is None or bounds is None:
            return
        low, high = (bounds.gt if bounds.ge is None else bounds.ge), (bounds.lt if bounds.le is None else bounds.le)
        above = low is None or (value >= low if bounds.ge is not None else value > low)
        below = high is None or (value <= high if bounds.le is not None else value < high)
        if not (above and below):  # NaN is neither
            wanted = [f"{'at least' if bounds.ge is not None else 'above'} {low:g}"] if low is not None else []
            wanted += [f"{'at most' if bounds.le is not None else 'below'} {high:g}"] if high is not None else []
            raise BadInputError(f"{self.words} must be {' and '.join(wanted)}, not {value:g}", self.option.hint)


@cache
def settings_of(kind: type) -> tuple[Setting, ...]:
    """The fields of the dataclass `kind` that are options, in their order."""
    hints = get_type_hints(kind, include_extras=True)
    found = (_taken_apart(one.name, hints[one.name], one.default) for one in fields(kind))
    return tuple(one for one in found if one is not None)


def renamed(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` under today's names: it may come from a file of an earlier version."""
    names = {one.option.former: one.name for one in settings_of(kind) if one.option.former}
    return {names.get(name, name): value for name, value in given.items()}


def _taken_apart(name: str, annotation: Any, default: Any) -> Setting | None:
    kind, *extras = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    option = next((one for one in extras if isinstance(one, Option)), None)
    if option is None:
        return None
    if get_origin(kind) in {Union, UnionType}:
        kind = next(one for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        extras += more
    bounds = next((one for one in extras if isinstance(one, Meta)), None)
    whole, repeated = kind, get_origin(kind) is tuple
    if repeated:
        kind = get_args(kind)[0]
    values = get_args(kind) if get_origin(kind) is Literal else ()
    return Setting(
        name=name,
        kind=type(values[0]) if values else kind,
        choices=option.choices or values,
        bounds=bounds,
        annotation=Annotated[whole, bounds] if bounds else whole,
        option=option,
        default=default,
        repeated=repeated,
    )
