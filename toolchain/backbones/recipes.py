"""Recipes: what is known of each network, and the settings that `edgetl finetune` starts from. No torch in here.

They lie in `models/NAME.toml`: inside an installed package, beside the package in a checkout.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

import toolchain
from toolchain.errors import BadInputError, MissingError
from toolchain.system import files, strict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAMES = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "resnet18", "resnet50", "vgg16", "vgg19")

MAX_BYTES = 1 << 16
"""Of a recipe, which has some twenty keys: reading takes the square of how deep keys lie in one another."""

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True)
class Network:
    """The size of a network with a head of 37 classes.

    `macs` are the multiply-accumulates of one photograph of 224 x 224, `size_mb` is that of its float32 ONNX file
    (10^6 bytes), `features` the width of its pooled features. `imagenet_top1` is what torchvision publishes of its
    weights, with the head of 1000 classes that they came with. `int8_targets` are the devices on which int8 can be
    faster than float, where that is not all of them.
    """

    parameters: Count
    macs: Count
    size_mb: Positive
    features: Count
    imagenet_top1: Share | None = None
    int8_targets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Measured:
    """Top-1 on the pets' test photographs, of linear probe and fine-tuned network; None where not measured."""

    pets_probe_top1: Share | None = None
    pets_top1: Share | None = None


@dataclass(frozen=True)
class TrainingRecipe:
    """One TOML file, `path`. `network` is there in all recipes that come with edgetl; a user's own may do without.

    `finetune` is what it says of the settings, `taught` what takes their place where a teacher helps; these are
    checked where they are used (`training.settings`).
    """

    network: Network | None = None
    finetune: dict[str, Any] = field(default_factory=dict)
    taught: dict[str, Any] = field(default_factory=dict)
    measured: Measured = Measured()
    path: str = ""


SECTIONS: dict[str, type | None] = {"network": Network, "finetune": None, "taught": None, "measured": Measured}


def names() -> tuple[str, ...]:
    """The networks that come with a recipe, the recommended one first."""
    return NAMES


def load(name: str) -> TrainingRecipe:
    """The recipe that comes with edgetl for the network `name`, one of NAMES.

    Raises BadInputError for a damaged file, MissingError where edgetl came without it.
    """
    package = Path(toolchain.__file__).parent
    for root in (package, package.parent):
        path = root / "models" / f"{name}.toml"
        if path.is_file():
            return read(path)
    missing = package / "models" / f"{name}.toml"
    raise MissingError(f"the recipe of {name} is not there: {missing}", "Install edgetl whole.")


def read(path: Path) -> TrainingRecipe:
    """Read a recipe; every section and every key of [finetune], [taught] and [measured] may be absent.

    Raises BadInputError naming the file and what is wrong in it: no TOML, an unknown key, a value of another type
    or out of range.
    """
    try:
        content = files.read_regular(path, MAX_BYTES)
        table = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadInputError(f"{path} is not TOML: it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{path} is not TOML: {error}") from None
    except RecursionError:
        raise BadInputError(f"{path} is nested too deeply") from None
    except ValueError:  # Python converts no number of more than 4300 digits
        raise BadInputError(f"{path} holds a number that is too long") from None
    _refuse_unknown(table, path)
    try:
        return replace(strict.convert(table, TrainingRecipe), path=str(path))
    except msgspec.ValidationError as error:
        # msgspec ends with the place: "Expected `int` - at `$.finetune.epochs`".
        raise BadInputError(f"{path}: {str(error).replace('`$.', '`')}") from None


def _refuse_unknown(table: dict[str, Any], path: Path) -> None:
    """msgspec passes over what a dataclass does not have; a mistyped setting would be ignored in silence."""
    for section, content in table.items():
        if section not in SECTIONS:
            raise BadInputError(f"{path}: unknown key `{section}`", f"Sections: {', '.join(SECTIONS)}.")
        kind = SECTIONS[section]
        known = [one.name for one in fields(kind)] if kind else list(content) if isinstance(content, dict) else []
        for key in content if isinstance(content, dict) else ():
            if key not in known:
                raise BadInputError(f"{path}: unknown key `{section}.{key}`", f"Known: {', '.join(known)}.")
