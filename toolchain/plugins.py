"""Registries of plug-ins: edgetl's own modules, and those that other packages name as entry points.

`docs/reference/plugins.md` describes each hook. A registry imports nothing until something is asked for by name.
So `edgetl --help` stays quick, and a broken package harms only those who need it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from toolchain.errors import EdgetlWarning, MissingError

Hook = TypeVar("Hook")

OWN = "edgetl"
TAKEN = "edgetl has one of that name"

KINDS = {
    "backbones": "toolchain.backbones:BACKBONES",
    "datasets": "toolchain.datasets.catalogue:DATASETS",
    "quantisers": "toolchain.export.int8.quantisers:QUANTISERS",
    "runtimes": "toolchain.runtimes.devices:RUNTIMES",
    "sinks": "toolchain.camera.sinks:SINKS",
}
"""Each kind of plug-in, and the `module:name` of its registry. None of these modules may import torch."""


class PluginWarning(EdgetlWarning):
    """A plug-in cannot be used; the command goes on without it."""


@dataclass(frozen=True)
class Plugin:
    """One entry of a registry. `package` brings it. `problem` is why it cannot be used; empty where it can."""

    kind: str
    name: str
    package: str
    problem: str = ""


class Registry(Generic[Hook]):
    """All plug-ins of one kind, by name: those of edgetl first, then those of other packages.

    `kind` is the last part of the entry points' group: `runtimes` for `edgetl.runtimes`. `built_in` maps names to
    `module:object`. `expects` returns the object that was loaded, or raises TypeError saying what it should be.
    """

    def __init__(self, kind: str, built_in: Mapping[str, str], expects: Callable[[object], Hook]) -> None:
        self.kind = kind
        self._built_in = dict(built_in)
        self._expects = expects
        self._warned: set[str] = set()

    @property
    def group(self) -> str:
        return f"edgetl.{self.kind}"

    def names(self) -> tuple[str, ...]:
        """Names of all that is registered, whether it loads or not. Imports none of them."""
        return (*self._built_in, *self._of_others())

    def __contains__(self, name: object) -> bool:
        return name in self._built_in or name in self._of_others()

    def get(self, name: str) -> Hook:
        """Load the plug-in `name`.

        Raises KeyError for an unknown name, MissingError where another package's does not load. An error of
        edgetl's own module is passed on as it is.
        """
        if name in self._built_in:
            return self._expects(_load(self._built_in[name]))
        point = self._of_others()[name]
        hook, problem = self._tried(point)
        if hook is None:
            package = _package(point)
            raise MissingError(
                f"the plug-in {name} ({self.group}, from {package}) does not work: {problem}",
                f"Update it, or remove it: pip uninstall {package.partition(' ')[0]}",
            )
        return hook

    def all(self) -> dict[str, Hook]:
        """Load all that work. Each of the others is a PluginWarning, once."""
        found = {name: self.get(name) for name in self._built_in}
        for name, point in self._of_others().items():
            hook, problem = self._tried(point)
            if hook is not None:
                found[name] = hook
            elif name not in self._warned:
                self._warned.add(name)
                message = f"the plug-in {name} ({self.group}, from {_package(point)}) is left out: {problem}"
                warnings.warn(message, PluginWarning, stacklevel=2)
        return found

    def plugins(self) -> list[Plugin]:
        """What is registered. Other packages' plug-ins are loaded, to see whether they work; edgetl's are not."""
        found = [Plugin(self.kind, name, OWN) for name in self._built_in]
        for name, point in self._of_others().items():
            found.append(Plugin(self.kind, name, _package(point), self._tried(point)[1]))
        twice = [point for point in _points(self.group, tuple(sys.path)) if point.name in self._built_in]
        return found + [Plugin(self.kind, point.name, _package(point), TAKEN) for point in twice]

    def _tried(self, point: EntryPoint) -> tuple[Hook | None, str]:
        """The plug-in, or why it cannot be used."""
        try:
            return self._expects(point.load()), ""
        except Exception as error:  # whatever somebody else's module raises
            said = str(error).strip().splitlines()
            return None, f"{type(error).__name__}: {said[0]}" if said else type(error).__name__

    def _of_others(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in _points(self.group, tuple(sys.path)):
            if point.name not in self._built_in:
                found.setdefault(point.name, point)
        return found


def registry(kind: str) -> Registry[Any]:
    """The registry of a kind of KINDS."""
    found: Registry[Any] = _load(KINDS[kind])
    return found


def plugged_in() -> list[Plugin]:
    """All plug-ins of all kinds."""
    return [plugin for kind in KINDS for plugin in registry(kind).plugins()]


def instance_of(*kinds: type[Hook]) -> Callable[[object], Hook]:
    """For `Registry.expects`: what is loaded must be an instance of one of these types."""

    def expects(found: object) -> Hook:
        if not isinstance(found, kinds):
            names = " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
            raise TypeError(f"{type(found).__name__} found, where {names} is expected")
        return found

    return expects


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


@lru_cache(maxsize=16)
def _points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Entry points of a group on this `sys.path`, by name; reading them takes some milliseconds."""
    return tuple(sorted(entry_points(group=group), key=lambda point: point.name))


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value.partition(":")[0]
