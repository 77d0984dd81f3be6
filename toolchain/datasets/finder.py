"""Former name of `toolchain.datasets.scan`."""

from toolchain.datasets.scan import find_photographs as find
from toolchain.datasets.scan import reject_reason as no_photograph

__all__ = ["find", "no_photograph"]
