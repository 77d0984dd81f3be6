"""Pixels of the network's input, put back into their photograph so that preprocessing finds them again.

Where `shortest_edge` is larger than the crop, a saved picture of the crop's size would be scaled up before the crop
is cut out of it, and what was changed in it would be blurred. So what is saved is the whole photograph at the
network's scale: preprocessing leaves it as large as it is, and cuts out the very pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolchain.images.preprocess import Image, Preprocess


@dataclass(frozen=True)
class CroppedImage:
    """A photograph at the network's scale, uint8 RGB, and what cuts the network's input out of it."""

    whole: Image
    preprocess: Preprocess

    @property
    def pixels(self) -> Image:
        """What the network sees, uint8 [height, width, 3]."""
        return self.preprocess.centre(self.whole)

    def with_pixels(self, pixels: Image) -> Image:
        """The photograph in which the network sees `pixels`."""
        changed: Image = self.whole.copy()
        self.preprocess.centre(changed)[:] = pixels
        return changed


def place(photograph: Image, preprocess: Preprocess) -> CroppedImage:
    """Scale a photograph as `preprocess` does, without cutting anything off."""
    return CroppedImage(preprocess.scale(photograph), preprocess)
