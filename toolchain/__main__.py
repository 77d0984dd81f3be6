"""`python -m toolchain` and `edgetl`: the command line. Ctrl-C ends it in order even while it is being loaded."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130
"""As `toolchain.errors.ExitCode` has it, which is yet to be loaded."""


def main() -> None:
    """Load the command line and run it."""
    # A shell starts what is in its background with Ctrl-C ignored; that stays.
    heeds = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeds:
        # An exception would come out of whatever is being imported, some of which catches it.
        signal.signal(signal.SIGINT, lambda number, frame: _end())
    from toolchain.cli import main as run

    try:
        if heeds:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:  # before a command was there to heed it
        _end()


def _end() -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
