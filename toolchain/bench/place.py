"""Where a benchmark is written when nobody says: a folder that is claimed before anything is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from toolchain.errors import BadInputError
from toolchain.runs import RUN_FILE
from toolchain.system import claims

STEM = "bench"


def home_of(artifact: Path) -> Path:
    """The folder that a benchmark of `artifact` belongs into: that of its run, or else the current one."""
    folder = artifact if artifact.is_dir() else artifact.parent
    # Not into any folder that holds a model: that may be an installed package, or somebody's repository.
    return folder if (folder / RUN_FILE).is_file() else Path()


@contextmanager
def claimed(out: Path | None, artifact: Path) -> Iterator[Path | None]:
    """Yield a folder to write into: `out`, or the first free `bench-<n>` of `home_of(artifact)`, else of the
    current folder; None where neither can be written to.

    A folder is claimed by making it, so two benchmarks that start at once never share one. It is removed again
    when nothing was written into it. Raises BadInputError where `out` cannot be a folder.
    """
    if out is not None:
        if out.exists() and not out.is_dir():
            raise BadInputError(f"{out} is not a folder", "Name a folder with --out.")
        # Before the minute of measuring, not after it; and nobody else measures into it meanwhile.
        with claims.working_in(out, "measuring", "Wait until it has ended, or choose another --out."):
            yield out
        return
    folder = _claim(dict.fromkeys((home_of(artifact), Path())))
    try:
        yield folder
    finally:
        if folder is not None:
            with suppress(OSError):
                folder.rmdir()


def _claim(homes: dict[Path, None]) -> Path | None:
    for home in homes:
        number = 1
        while True:
            folder = home / f"{STEM}-{number}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1
            except OSError:  # read-only, or somebody else's
                break
    return None
