"""Photographs and labels: the catalogue of data sets, splits by content hash, downloads, drawn pets."""

from toolchain.datasets.photographs import SPLITS, Dataset, Photograph

__all__ = ["SPLITS", "Dataset", "Photograph"]
