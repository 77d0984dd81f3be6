"""Write docs/reference/python.md from the docstrings of `toolchain`: `python docs/make_python.py`."""

from __future__ import annotations

import inspect
from pathlib import Path

import toolchain

TARGET = Path(__file__).parent / "reference" / "python.md"
HEAD = """# The Python interface

Everything that `import toolchain` offers. Names are loaded when they are first used, so that the import costs
next to nothing. The examples run as they stand; a test runs them.
"""


def documented(name: str) -> str:
    """One public name as a section: its signature, its docstring, and the public methods of a class."""
    one = getattr(toolchain, name)
    lines = [f"## `toolchain.{name}`\n"]
    if inspect.isclass(one):
        bases = ", ".join(base.__name__ for base in one.__bases__ if base is not object)
        if bases:
            lines.append(f"A `{bases}`.\n")
        lines.append(_text(one.__doc__))
        for key, member in vars(one).items():
            if key.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
                continue
            signature = f"{key}{_signature(member)}" if inspect.isfunction(member) else key
            lines.append(f"### `{signature}`\n\n{_text(member.__doc__)}")
    else:
        lines.append(f"```python\n{name}{_signature(one)}\n```\n\n{_text(inspect.unwrap(one).__doc__)}")
    return "\n".join(lines)


class _Written(str):
    """A type as it stands in the source, which `inspect` would put into quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _signature(function: object) -> str:
    """Parameters with their types; defaults that are texts keep their quotes."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    parameters = [one.replace(annotation=_written(one.annotation)) for one in signature.parameters.values()]
    whole = signature.replace(parameters=parameters, return_annotation=_written(signature.return_annotation))
    return str(whole).replace("toolchain.", "")


def _written(annotation: object) -> object:
    return _Written(annotation) if isinstance(annotation, str) else annotation


def _text(docstring: str | None) -> str:
    """A docstring as Markdown: examples with prompts become code."""
    lines, code = [], False
    for line in inspect.cleandoc(docstring or "").splitlines():
        if line.startswith((">>>", "    >>>")) and not code:
            lines.append("```pycon")
            code = True
        elif code and not line.strip():
            lines.append("```")
            code = False
        lines.append(line.removeprefix("    ") if code else line)
    return "\n".join([*lines, *(["```"] if code else [])]) + "\n"


def reference() -> str:
    """The whole page."""
    names = [name for name in toolchain.__all__ if not name.startswith("_")]
    return "\n".join([HEAD, *(documented(name) for name in names)])


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
