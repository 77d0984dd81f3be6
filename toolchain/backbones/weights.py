"""Pretrained weights: where they come from, and how they get into a network of other classes."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from toolchain.artifact import read_artifact
from toolchain.backbones import IMAGENET, IMAGENET_V1, find, recipes
from toolchain.backbones.networks import backbone_of, check_weights, grow, head_of, not_finite, place_of_head
from toolchain.datasets.unpack import BoundedReads
from toolchain.errors import BadInputError
from toolchain.runs.ready_made import READY_MADE, ready_made_artifact, weights_file
from toolchain.system import files

SHOWN = 6
"""Names of tensors in a message."""

RECORDS = frozenset(
    {"argparse", "datetime", "lightning", "lightning_fabric", "omegaconf", "pathlib", "pytorch_lightning", "yacs"}
)
"""Packages whose objects trainers put beside the weights, to remember settings. They are read as empty shells."""


class _Shell:
    """Stands for an object of a trainer's record: it takes whatever it is given, and runs nothing."""

    def __new__(cls, *_: Any) -> _Shell:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        return


@dataclass(frozen=True)
class Pretrained:
    """Where weights came from. `head` is the old classifier on the pooled features, where the file had one that
    fits: weight [classes, features] and bias [classes], float32. It helps to start a new head. `stripped` is what a
    wrapper had put before the names in the file; `unused` are tensors that are none of the network's."""

    source: str
    sha256: str | None
    licence: str
    head: tuple[Tensor, Tensor] | None = None
    stripped: str = ""
    unused: tuple[str, ...] = ()

    def remarks(self) -> list[str]:
        """What a person should know of the way from the file into the network, in lines."""
        found = []
        if self.stripped:
            found.append(f"{self.source}: names were taken without {self.stripped!r} before them")
        if self.unused:
            more = f" and {len(self.unused) - SHOWN} more" if len(self.unused) > SHOWN else ""
            names = ", ".join(self.unused[:SHOWN])
            found.append(f"{self.source}: not part of the network, and not used: {names}{more}")
        return found


def load_pretrained(network: nn.Module, name: str, weights: str) -> Pretrained:
    """Load weights into everything but the head of `network`, in place.

    `weights` is the path of a safetensors or .pth state dict in the names of the network's library, `imagenet` (the
    best published ones), `imagenet-v1` (the first ones), `ready-made` (those of the pets model that comes with
    edgetl, a mobilenet_v2) or `none`. Hidden layers before the head that the weights hold are kept.
    Raises BadInputError naming the tensors that are missing, have other shapes or hold NaN, MissingError when the
    download fails.
    """
    if weights == "none":
        return Pretrained("none", None, "")
    if weights in {IMAGENET, IMAGENET_V1}:
        backbone = backbone_of(network)
        if backbone.download is None:
            raise BadInputError(f"no weights of {name} are published", "Pass a file as --weights, or none.")
        return _fit(network, backbone.download(weights), weights, None)
    path = weights_file(weights, name)
    assert path is not None
    found = _fit(network, _read_state(path), weights, files.sha256_of(path))
    if weights == READY_MADE and not Path(READY_MADE).is_file():
        licences = read_artifact(ready_made_artifact()).card.source.licences
        return replace(found, licence="; ".join(f"{what}: {terms}" for what, terms in licences.items()))
    return found


def _read_state(path: Path) -> dict[str, Tensor]:
    check_weights(path)
    try:
        if path.suffix == ".safetensors":
            with files.encodable(path) as named:
                return load_file(named)
        _check_parts(path)
        with torch.serialization.safe_globals(_shells(path)):
            tensors = _unwrapped(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, OSError, UnicodeDecodeError):
        raise BadInputError(f"{path} is not a whole safetensors file", "Copy it again.") from None
    except Exception as error:  # torch.load raises pickle, zip and runtime errors of many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInputError(
            f"{path} is not a state dict that can be loaded safely: {reason}", "Save it as safetensors."
        ) from None
    if not tensors:
        raise BadInputError(f"{path} holds no state dict", "Save `network.state_dict()`.")
    return tensors


def _check_parts(path: Path) -> None:
    """Refuse an archive whose parts are larger than itself: PyTorch compresses none, and makes room for all."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return  # of an older version of torch, whose tensors stand in the file as they are
        with zipfile.ZipFile(BoundedReads(file)) as archive:
            size = sum(part.file_size for part in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(f"it unpacks to {size / 1e6:,.0f} MB, more than it has itself")


def _shells(path: Path) -> list[Any]:
    """Shells for the objects of trainers' records in a checkpoint: timm's command line, Lightning's settings.

    Only these: whatever else is in it is refused as before.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # no zip archive: of an older version of torch, or no checkpoint at all
        return []
    known = [name for name in names if name.partition(".")[0] in RECORDS]
    # PyTorch puts keys into its own few kinds of dictionaries only.
    return [(OrderedDict if name.endswith("Dict") else _Shell, name) for name in known]


def _unwrapped(state: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint under their names; those of dicts in it have the dict's name before their own."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()  # a dict that holds another one twice, which does so again, would never end

    def collect(level: Any, prefix: str) -> None:
        if not isinstance(level, Mapping) or id(level) in seen:
            return
        seen.add(id(level))
        for key, value in level.items():
            if isinstance(value, Tensor):
                found[f"{prefix}{key}"] = value
            else:
                collect(value, f"{prefix}{key}.")

    collect(state, "")
    return found


def _own_names(state: dict[str, Tensor], body: Iterable[str]) -> tuple[dict[str, Tensor], str]:
    """The tensors of the network in a checkpoint under the names of its `body`, and what stood before them.

    Wrappers put names before a network's own: DataParallel `module.`, torch.compile `_orig_mod.`, Lightning the
    attribute, scripts that save a dict its key. Where an average of the weights is there too, it is the one to use.
    """
    plain = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    compiled = "_orig_mod." if any("_orig_mod." in key for key in state) else ""
    first = next(iter(body))
    parts = {
        name.partition(".")[0] for name in body
    }  # the name of a deeper layer may end like that of the first one
    prefixes = [key.removesuffix(first) for key in plain if key == first or key.endswith(f".{first}")]
    prefixes = [prefix for prefix in prefixes if prefix.partition(".")[0] not in parts]
    if not prefixes:
        return plain, ""
    prefix = min(prefixes, key=lambda one: ("ema" not in one.replace("_", ".").split("."), len(one), one))
    return {
        key.removeprefix(prefix): value for key, value in plain.items() if key.startswith(prefix)
    }, compiled + prefix


def _fit(network: nn.Module, state: dict[str, Tensor], source: str, sha256: str | None) -> Pretrained:
    backbone = backbone_of(network)
    in_head = f"{backbone.head}."
    state, stripped = _own_names(state, [key for key in network.state_dict() if not key.startswith(in_head)])
    grow(network, state)
    own = network.state_dict()
    place = place_of_head(network)
    body = {key: value for key, value in own.items() if not key.startswith(f"{place}.")}
    problems, others = _misfits(body, in_head, state)
    if problems:
        shown = "; ".join(problems[:SHOWN]) + (
            f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        )
        named = " or ".join(f"--model {name}" for name in _fitting(state))
        raise BadInputError(
            f"{source} does not fit {backbone.name}: {shown}",
            f"They are weights for {named}." if named else "Are these the weights of another --model?",
        )
    used = {key: value for key, value in state.items() if key in body or key.startswith(in_head)}
    # As the network will hold them: what float64 can still hold may be infinite in float32.
    bad = not_finite({key: value.float() if value.is_floating_point() else value for key, value in used.items()})
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise BadInputError(
            f"{source}: {bad[0]}{more} holds NaN or infinity",
            "The training that wrote it has diverged; take an earlier one.",
        )
    network.load_state_dict({**own, **{key: state[key].to(body[key].dtype) for key in body if key in state}})
    licence = f"that of the file; for the published ones: {backbone.licence}" if sha256 else backbone.licence
    old = _old_head(state, (place, f"{backbone.head}.1", backbone.head), head_of(network).in_features)
    return Pretrained(source, sha256, licence, old, stripped, tuple(others))


def _misfits(body: Mapping[str, Tensor], in_head: str, state: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Why `state` is not that of a network with this `body`, in words, and its tensors that are none of the body's.

    `in_head` is what the names in its head begin with.
    """
    # A counter that only training reads; files made from other formats lack it.
    missing = [key for key in body if key not in state and not key.endswith("num_batches_tracked")]
    wrong = [key for key in body if key in state and state[key].shape != body[key].shape]
    # A resnet34 holds all that a resnet18 needs: half of it would be used without a word.
    parts = {key.partition(".")[0] for key in body}
    others = [key for key in state if key not in body and not key.startswith(in_head)]
    unknown = [key for key in others if key.partition(".")[0] in parts]
    problems = [f"{key} {list(state[key].shape)}, not {list(body[key].shape)}" for key in wrong]
    problems += [f"{key} is missing" for key in missing]
    problems += [f"{key} is not part of it" for key in unknown]
    return problems, others


def _fitting(state: dict[str, Tensor]) -> list[str]:
    """Names of the networks that come with edgetl whose layers `state` holds."""
    found = []
    for name in recipes.names():
        backbone = find(name)
        in_head = f"{backbone.head}."
        with torch.device("meta"):
            own = backbone.create().state_dict()
        body = {key: value for key, value in own.items() if not key.startswith(in_head)}
        if not _misfits(body, in_head, _own_names(state, body)[0])[0]:
            found.append(name)
    return found


def _old_head(state: dict[str, Tensor], places: Iterable[str], features: int) -> tuple[Tensor, Tensor] | None:
    """A linear layer on `features` at one of `places`: where edgetl has it, or the network's library."""
    for name in places:
        weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
        if weight is None or bias is None or weight.ndim != 2 or weight.shape[1] != features:
            continue
        if bias.shape == weight.shape[:1]:
            return weight.float(), bias.float()
    return None
