"""Where edgetl keeps files that can be made again (the user's cache folder), and temporary ones."""

from __future__ import annotations

import errno
import functools
import getpass
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import platformdirs

from toolchain.errors import BadInputError
from toolchain.system import claims

CLAIMING_TRIES = 20


def cache_folder() -> Path:
    """The user's cache folder. A user without a home (in some containers and services) gets one in the temporary
    folder, and a warning is logged once."""
    try:
        folder = platformdirs.user_cache_path("edgetl")
    except (RuntimeError, KeyError):
        folder = Path()
    return folder if folder.is_absolute() else _without_home()


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A new folder among the system's temporary files, removed at the end; what killed processes have left there is
    removed at the beginning.

    Raises BadInputError, with the folder's name and what to do, when the disk becomes full or none can be made.
    """
    _sweep(Path(tempfile.gettempdir()))
    remedy = "Free some space there, or name a folder that has more: TMPDIR=FOLDER edgetl ..."
    with ExitStack() as held:
        try:
            made = _claimed_folder(prefix, held)
        except OSError as error:
            raise BadInputError(f"no temporary files can be made: {error.strerror or error}", remedy) from None
        try:
            yield made
        except OSError as error:
            # The system does not say which file it was that did not fit.
            is_here = error.filename is None or str(error.filename).startswith(str(made))
            if error.errno not in {errno.ENOSPC, errno.EDQUOT} or not is_here:
                raise
            raise BadInputError(f"{made.parent}, the folder of temporary files, is full", remedy) from None


def _claimed_folder(prefix: str, held: ExitStack) -> Path:
    """A new temporary folder that is claimed until `held` ends. Raises OSError if none can be made."""
    for left in reversed(range(CLAIMING_TRIES)):
        with ExitStack() as mine:
            folder = Path(tempfile.mkdtemp(prefix=prefix))
            mine.callback(_remove, folder)
            try:
                mine.enter_context(claims.claimed(folder / claims.LOCK_FILE, folder, "using it", ""))
            except (claims.InUseError, FileNotFoundError):
                # Before it was claimed, another process took it for one that was left behind, and removed it.
                if left:
                    continue
                raise
            held.push(mine.pop_all())
            return folder
    raise AssertionError("the last try returns or raises")


def _remove(folder: Path) -> None:
    """Remove a scratch folder that is no longer claimed; another process may be about to sweep it, too."""
    shutil.rmtree(folder, ignore_errors=True)
    # On Windows, what somebody still has open stays: by this file the next command finds it.
    with suppress(OSError):
        if any(folder.iterdir()):
            (folder / claims.LOCK_FILE).touch()


def _sweep(place: Path) -> None:
    """Remove this user's scratch folders in `place` that no process holds any more."""
    for lock in place.glob(f"edgetl-*/{claims.LOCK_FILE}"):
        folder = lock.parent
        if claims.is_held_here(lock):
            continue
        # It may be another user's, be removed by its owner meanwhile, or be in use.
        with suppress(OSError, claims.InUseError):
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid()):
                with claims.claimed(lock, folder, "removing it", ""):
                    shutil.rmtree(folder, ignore_errors=True)


def expanded(path: str) -> Path:
    """`path` with `~` replaced by the user's home; unchanged if there is no such user or home."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - without a home, pathlib's raises


@functools.cache
def _without_home() -> Path:
    folder = temporary_folder()
    logging.getLogger(__name__).warning(
        "warning: this user has no home folder, so files are cached in %s (or set EDGETL_DATA and EDGETL_CACHE)",
        folder,
    )
    return folder


@functools.cache
def temporary_folder() -> Path:
    """This user's own folder below the temporary folder, the same each time. It may not exist yet."""
    folder = Path(tempfile.gettempdir()) / f"edgetl-{_user()}"
    try:
        found = folder.lstat()
    except OSError:
        return folder
    # Other users can make a folder of that name, and would then decide what is read from it.
    own = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    if stat.S_ISDIR(found.st_mode) and own and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return folder
    return Path(tempfile.mkdtemp(prefix=f"edgetl-{_user()}-"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return str(os.getuid()) if hasattr(os, "getuid") else "user"
