"""Until all callers name `toolchain.system.text`."""

from toolchain.system.text import apply, escaped, harmless, is_encodable, unescaped

__all__ = ["apply", "escaped", "harmless", "is_encodable", "unescaped"]
