"""Until all callers name `toolchain.system.progress`."""

from toolchain.system.progress import EtaReporter as Whole
from toolchain.system.progress import PlannedTask as Work

__all__ = ["Whole", "Work"]
