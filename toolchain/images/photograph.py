"""Former place of `toolchain.images.reader.Photograph`."""

from toolchain.images.reader import Photograph

__all__ = ["Photograph"]
