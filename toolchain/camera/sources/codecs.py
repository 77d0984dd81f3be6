"""Names of video codecs, and which of them this OpenCV cannot decode."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from toolchain.errors import BadInputError
from toolchain.system import files

NAMES = {
    "av01": "AV1",
    "avc1": "H.264",
    "h264": "H.264",
    "hevc": "H.265 (HEVC)",
    "hvc1": "H.265 (HEVC)",
    "hev1": "H.265 (HEVC)",
    "vvc1": "H.266 (VVC)",
    "vp80": "VP8",
    "vp90": "VP9",
    "vp09": "VP9",
    "mjpg": "motion JPEG",
}
"""Of the four letters by which containers know them."""


def codec_of(fourcc: str) -> str:
    """A codec as people know it; its four letters where nobody does; empty where there are none."""
    return NAMES.get(fourcc.lower(), fourcc)


def undecodable(name: str, fourcc: str, path: Path | None = None) -> BadInputError:
    """What to say of a video that opens and gives no frame. With PyAV, whose FFmpeg decodes more, it is known
    whether the file `path` is at fault or this OpenCV."""
    codec = codec_of(fourcc)
    by_pyav = _codec_that_pyav_decodes(path) if path else None
    convert = "ffmpeg -i FILE -c:v libx264 NEW.mp4"
    if by_pyav:
        return BadInputError(
            f"{name}: this OpenCV cannot decode its codec, {codec or by_pyav}", f"Convert it: {convert}"
        )
    return BadInputError(
        f"{name} holds no frame that can be decoded" + (f"; its codec is {codec}" if codec else ""),
        f"This OpenCV may lack the codec ({convert}), or the file is cut off. On a server, its index must come "
        "first: ffmpeg -i FILE -c copy -movflags +faststart NEW.mp4",
    )


def undecodable_stream(name: str, fourcc: str) -> tuple[str, str]:
    """What to say of a stream that opens and gives no frame, and what to do."""
    codec = codec_of(fourcc)
    told = f"; its codec is {codec}" if codec else ""
    return f"{name} gives no frame that can be decoded{told}", "Let the sender use H.264 or motion JPEG."


def _codec_that_pyav_decodes(path: Path) -> str | None:
    """The codec of a file of which PyAV, where it is installed, decodes a frame."""
    with suppress(ImportError, OSError, ValueError, IndexError):  # FFmpeg's own errors are OSErrors and ValueErrors
        import av

        with files.encodable(path) as named, av.open(str(named)) as container:
            if next(container.decode(video=0), None) is not None:
                return str(container.streams.video[0].codec_context.name)
    return None
