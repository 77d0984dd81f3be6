"""Who works where: no two processes write into one folder, or to one file, at once.

A claim is a lock that the operating system holds for an open file. It goes with the process, also when that is
killed, so none is ever left behind; the file that is left then says nothing by itself. On a file system without
locks, claims are always granted.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident

from toolchain.errors import BadInputError

LOCK_FILE = ".edgetl-lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_FAR = 1 << 30
"""Where Windows locks a byte: what it locks cannot be read by others, and they are to read who it was."""

_held: dict[Path, int] = {}
"""Lock files that this process holds, with the thread that does: what it calls may work in the same place."""


class InUseError(BadInputError):
    """Another process works there. Exit code 2."""


@contextmanager
def working_in(folder: Path, doing: str, hint: str) -> Iterator[None]:
    """Hold `folder`, which is made where there is none, and removed at the end if nothing was written into it.

    Raises InUseError where another process holds it: `doing` says to that one's rivals what it does (`training`),
    `hint` says to this one what else it can do.
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
    """Hold the file or folder `file`, which need not be there, by a hidden file beside it.

    The folder around it must be there. Otherwise as `working_in`.
    """
    # `.`, `..` and `/` have no name to put anything beside.
    place = file.resolve() if file.name in ("", "..") else file
    with claimed(place.parent / f".{place.name}{LOCK_FILE}", file, doing, hint):
        yield


@contextmanager
def claimed(lock: Path, what: Path, doing: str, hint: str) -> Iterator[None]:
    """Hold the file `lock`, which stands for `what`. Raises InUseError where another process does."""
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
        # First removed, then released: who opened it before finds that it is no longer the file of that name.
        with suppress(OSError):  # Windows removes no file that is open
            lock.unlink()
        os.close(handle)


def new_folder(candidates: Iterable[Path]) -> Path:
    """Make the first of `candidates` that nobody has made yet, and return it: it is the caller's alone."""
    for folder in candidates:
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("there is always one more number")


def is_empty(folder: Path) -> bool:
    """Whether nothing but a claim is in `folder`."""
    return all(entry.name == LOCK_FILE for entry in folder.iterdir())


def _acquired(lock: Path) -> int | None:
    """The open file, locked; None where another process holds it."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _locked(handle):
                os.close(handle)
                return None
            # It may have been removed between opening and locking, by who held it before.
            if _is_at(lock, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_at(lock: Path, handle: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _locked(handle: int) -> bool:
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
    return "another process works there"
