"""Help, however Python was started."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("words", [[], ["bench"], ["data", "check"], ["explain"]], ids=" ".join)
def test_help_does_without_docstrings(words: list[str]) -> None:
    """`python -OO` leaves them out."""
    told = [
        subprocess.run(
            [sys.executable, *flags, "-m", "toolchain", *words, "--help"], capture_output=True, check=True
        )
        for flags in ([], ["-OO"])
    ]
    assert told[0].stdout == told[1].stdout
