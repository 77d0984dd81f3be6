"""Former names of `toolchain.images.reader` and `toolchain.images.cache`."""

from __future__ import annotations

from pathlib import Path

from toolchain.images.cache import CacheState, cache_folder, cache_state, clear_cache
from toolchain.images.preprocess import Preprocess
from toolchain.images.reader import Photograph, Reader
from toolchain.system.progress import Reporter

__all__ = ["CacheState", "Decoded", "cache_folder", "cache_state", "clear_cache", "problem_of"]


class Decoded(Reader):
    """`Reader` with its arguments in their former order."""

    def __init__(self, folder: Path | None, spec: Preprocess, reporter: Reporter) -> None:
        super().__init__(spec, folder, reporter)


def problem_of(photo: Photograph, decoded: Reader, *, larger: bool = False) -> str:
    """`Reader.problem_of`."""
    return decoded.problem_of(photo, larger=larger)
