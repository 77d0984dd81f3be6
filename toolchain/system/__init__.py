"""What every other part stands on: files, processes, terminals, containers. Knows no pictures and no networks.

Here: packages that can be called. `toolchain.export(...)` exports, and `toolchain.export.exporting` is a module.
A package becomes an attribute of its parent as soon as one of its modules is imported. A function of the same name
would be there or not, depending on who imported what before. So the package itself is made callable, and it is the
same object in any order of imports (docs/decisions/0070-names-for-programs.md).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


def make_callable(package: str, function: str) -> None:
    """Let a call of the module `package` be a call of `function` ("module:name" below it), loaded by then.

    `inspect.signature` and `help` of `__wrapped__` show that function's.
    """
    module, _, name = function.partition(":")

    def load() -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(import_module(f"{package}.{module}"), name)
        return found

    class CallablePackage(ModuleType):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return load()(*arguments, **options)

        @property
        def __wrapped__(self) -> Callable[..., Any]:
            return load()

    sys.modules[package].__class__ = CallablePackage
