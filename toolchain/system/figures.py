"""Until all callers name `toolchain.system.text`."""

from toolchain.system.text import fixed, percent

__all__ = ["fixed", "percent"]
