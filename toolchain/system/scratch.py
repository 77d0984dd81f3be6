"""Until all callers name `toolchain.system.folders`."""

from toolchain.system.folders import scratch_folder

__all__ = ["scratch_folder"]
