"""Networks that can be fine-tuned: what edgetl has to know of one, and where to find it by name. No torch in here.

Other packages add theirs by the entry point `edgetl.backbones` (docs/reference/plugins.md).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from toolchain.backbones.recipes import NAMES, TrainingRecipe
from toolchain.errors import BadInputError
from toolchain.images.preprocess import Preprocess
from toolchain.plugins import Registry, instance_of

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET, IMAGENET_V1 = "imagenet", "imagenet-v1"
"""`--weights`: the best published ones of a network, and the first ones."""
PUBLISHED = "-published"
"""Ends the name of a network that has more layers than the one to fine-tune (`Backbone.whole`)."""


def _none(_: object) -> list[nn.Module]:
    return []


@dataclass(frozen=True)
class Published:
    """What a network was published as: the `labels` of its head, the `data` that taught it, and how photographs
    were prepared when it was judged."""

    labels: tuple[str, ...]
    data: str
    preprocess: Preprocess


@dataclass(frozen=True)
class Backbone:
    """A network, from pixels to pooled features, and how to put a new head on it.

    - `name`: by which `--model` and run.json know it.
    - `create`: makes it with random weights, and any head. Names of its state dict stay in runs for good.
    - `head`: the submodule after the pooled features; edgetl puts dropout and one linear layer in its place.
    - `blocks`: the layers from input to maps, in order, as units that fine-tuning freezes or trains. One after the
      other they compute the maps, and together they hold each parameter once. The network's own, not copies.
    - `hidden`: layers between the pooled features [batch, width] and the head that it always has.
    - `hidden_in`: new layers for a state dict that holds some at the place of the head, before its last layer; the
      last linear one of them gives the features. Empty where it holds none.
    - `features`: width of what the head sees; 0: that of the linear layer that `create` put there.
    - `download`: the state dict for `imagenet` or `imagenet-v1`. Raises MissingError where it cannot be had,
      BadInputError where there is no such thing. None: no published weights.
    - `published`: what the weights of that name, or of a file, are with the head that they bring. None: not known.
    - `whole`: the network that this head needs, where it has more layers than this one; its name is that and
      `-published`.
    - `last_maps`: the block, counted from the last, whose maps are the last of more than one pixel.
    - `mean`, `std`: of the pixels that it was trained on, RGB, 0 to 1; `preprocess`: how photographs become these.
    - `recipe`: settings to fine-tune with; None: `models/NAME.toml`, which comes with edgetl.
    """

    name: str
    create: Callable[[], nn.Module]
    head: str
    blocks: Callable[[nn.Module], list[nn.Module]]
    hidden: Callable[[nn.Module], list[nn.Module]] = _none
    hidden_in: Callable[[Mapping[str, Tensor]], list[nn.Module]] = _none
    features: int = 0
    download: Callable[[str], dict[str, Tensor]] | None = None
    published: Callable[[str], Published] | None = None
    whole: Backbone | None = None
    last_maps: int = -1
    licence: str = ""
    dropout: float = 0.2
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    preprocess: Preprocess = field(default_factory=Preprocess)
    recipe: TrainingRecipe | None = None

    def __deepcopy__(self, _: object) -> Backbone:
        return self


class Family:
    """Backbones that are named by what follows a colon, as in `timm:NAME`. `find` makes one, or raises
    BadInputError."""

    def __init__(self, find: Callable[[str], Backbone]) -> None:
        self.find = find


BACKBONES: Registry[Backbone | Family] = Registry(
    "backbones",
    {
        **{name: f"toolchain.backbones.torchvision:{name.upper()}" for name in NAMES},
        "timm": "toolchain.backbones.timm:FAMILY",
    },
    instance_of(Backbone, Family),
)


def find(name: str) -> Backbone:
    """The backbone that `--model NAME` stands for. Raises BadInputError for an unknown one."""
    first, colon, rest = name.partition(":")
    if first in BACKBONES:
        found = BACKBONES.get(first)
        if isinstance(found, Family) and rest:
            return found.find(rest)
        if isinstance(found, Backbone) and not colon:
            return found
    if name.endswith(PUBLISHED) and (small := find(name.removesuffix(PUBLISHED))).whole:
        return small.whole
    raise unknown(name)


def recipe_of(name: str) -> TrainingRecipe:
    """What is known of the network `name`, and the settings to fine-tune it with. Raises as `find`."""
    from toolchain.backbones import recipes

    return recipes.load(name) if name in NAMES else find(name).recipe or TrainingRecipe()


def preprocess_of(name: str) -> Preprocess:
    """What the network `name` wants done to photographs. Raises as `find`."""
    return Preprocess() if name in NAMES else find(name).preprocess


def unknown(name: str) -> BadInputError:
    """The error for a network that edgetl does not know, with the one that may have been meant."""
    names = [known if known != "timm" else "timm:NAME" for known in BACKBONES.names()]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1, cutoff=0.6)
    guess = f"Did you mean {near[0]}? " if near else ""
    return BadInputError(f"unknown model {name!r}", f"{guess}Known are: {', '.join(names)}.")
