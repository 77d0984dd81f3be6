"""What PyInstaller is told of edgetl (entry point `pyinstaller40`): much of it is imported by name."""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """Where `hook-toolchain.py` lies."""
    return [str(Path(__file__).parent)]
