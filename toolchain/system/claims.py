"""Claims on files and folders: two processes never write into one folder, or to one file, at the same time.

A claim is a lock that the operating system holds on an open file. It ends with the process, even if that is killed,
so claims are never left behind; a leftover lock file has no meaning by itself. On a file system without locks,
every claim is granted.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident

from toolchain.errors import BadInputError

LOCK_FILE = ".edgetl-lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_FAR = 1 << 30
"""Where Windows locks a byte: far behind the text, since others cannot read what is locked."""

_held: dict[Path, int] = {}
"""The lock files that this process holds, and for each the thread: what that thread calls may claim it again."""


class InUseError(BadInputError):
    """Another process is using the file or folder. Exit code 2."""


@contextmanager
def working_in(folder: Path, doing: str, hint: str) -> Iterator[None]:
    """Claim `folder`. It is made if it does not exist, and then removed at the end if nothing was written into it.

    Raises InUseError, with `hint`, if another process holds it. `doing` tells other processes what this one does
    there, such as `training`.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with claimed(folder / LOCK_FILE, folder, doing, hint):
            yield
    finally:
        for place in made:
            with suppress(OSError):  # there is something in it
                place.rmdir()


@contextmanager
def writing(file: Path, doing: str, hint: str) -> Iterator[None]:
    """Claim the file or folder `file`, by a hidden file beside it. It need not exist, but its parent folder must.

    Where nothing can be written beside a folder (it is a mounted disk), the hidden file lies in it. Otherwise as
    `working_in`.
    """
    # `.`, `..` and `/` have no name that a hidden file beside them could be called after.
    place = file.resolve() if file.name in ("", "..") else file
    lock = place.parent / f".{place.name}{LOCK_FILE}"
    if place.is_dir() and not os.access(place.parent, os.W_OK):
        lock = place / LOCK_FILE
    with claimed(lock, file, doing, hint):
        yield


@contextmanager
def claimed(lock: Path, what: Path, doing: str, hint: str) -> Iterator[None]:
    """Hold the lock file `lock`, which stands for `what`. Raises InUseError if another process holds it."""
    lock = lock.absolute()
    if _held.get(lock) == get_ident():
        yield
        return
    handle = _acquired(lock)
    if handle is None:
        raise InUseError(f"{what} is in use: {_holder(lock)}", hint)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()} is {doing}\n".encode(errors="replace"))
        _held[lock] = get_ident()
        yield
    finally:
        _held.pop(lock, None)
        # Removed before it is released: a process that has opened it will notice that it is no longer that file.
        with suppress(OSError):  # Windows removes no file that is open
            lock.unlink()
        os.close(handle)


def is_held_here(lock: Path) -> bool:
    """Whether this very process holds the lock file `lock`, in any of its threads."""
    return lock.absolute() in _held


def new_folder(candidates: Iterable[Path]) -> Path:
    """Make the first of `candidates` that does not exist, and return it. It belongs to the caller alone."""
    for folder in candidates:
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("there is always one more number")


def is_empty(folder: Path) -> bool:
    """Whether `folder` holds nothing but a lock file."""
    return all(entry.name == LOCK_FILE for entry in folder.iterdir())


def _acquired(lock: Path) -> int | None:
    """The open and locked file; None if another process holds it."""
    while True:
        handle = _opened(lock)
        try:
            if not lock_file(handle):
                os.close(handle)
                return None
            # Its former holder may have removed it between opening and locking.
            if _is_at(lock, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _opened(lock: Path) -> int:
    """Open or make the lock file. A folder may come from others, with a link of that name to a file of the user's:
    what it leads to is neither emptied nor written to. Raises BadInputError."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | _NO_WAIT, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP or not lock.is_symlink():
            raise
    else:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
    raise BadInputError(f"{lock} is a link or a pipe, and should be a file of edgetl's", "Remove it.")


def _is_at(lock: Path, handle: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def lock_file(handle: int) -> bool:
    """Lock an open file until it is closed; False if it is locked already, through another opening of it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN, errno.EDEADLK}:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _holder(lock: Path) -> str:
    with suppress(OSError):
        if said := lock.read_bytes().decode(errors="replace").strip():
            return said
    return "another process is using it"
