"""Pictures as an animated GIF."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image as Pillow

from toolchain.images.preprocess import Image

FRAME_MS = 120
LAST_MS = 2000


def as_gif(frames: Sequence[Image]) -> bytes:
    """An endless GIF of `frames`, uint8 RGB of one size, that stays at the last. Each has its own 256 colours."""
    pictures = [Pillow.fromarray(frame).quantize(256, Pillow.Quantize.FASTOCTREE) for frame in frames]
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    encoded = io.BytesIO()
    pictures[0].save(
        encoded, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False
    )
    return encoded.getvalue()
