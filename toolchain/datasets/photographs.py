"""Former place of what is in `toolchain.datasets.splits`."""

from toolchain.datasets.splits import SPLITS, Dataset, sha256_of_labelled
from toolchain.images.reader import Photograph

__all__ = ["SPLITS", "Dataset", "Photograph", "sha256_of_labelled"]
