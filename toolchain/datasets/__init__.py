"""Photographs and labels: the catalogue of data sets, splits by content hash, downloads, drawn pets."""

from toolchain.datasets.splits import SPLITS, Dataset
from toolchain.images.reader import Photograph

__all__ = ["SPLITS", "Dataset", "Photograph"]
