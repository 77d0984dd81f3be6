"""Files that are needed for a while only, and what to do where there is no place for them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from toolchain.errors import BadInputError


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A folder for what is needed for a while, where the system has its temporary files; removed at the end.

    Raises BadInputError, with the folder's name and what to do, when it becomes full or none can be made.
    """
    remedy = "Free some space there, or name a folder that has more: TMPDIR=FOLDER edgetl ..."
    try:
        made = TemporaryDirectory(prefix=prefix)
    except OSError as error:
        raise BadInputError(f"no temporary files can be made: {error.strerror or error}", remedy) from None
    with made as name:
        try:
            yield Path(name)
        except OSError as error:
            # The system does not say which file it was whose content found no place.
            is_here = error.filename is None or str(error.filename).startswith(name)
            if error.errno not in {errno.ENOSPC, errno.EDQUOT} or not is_here:
                raise
            raise BadInputError(f"{Path(name).parent}, the folder of temporary files, is full", remedy) from None
