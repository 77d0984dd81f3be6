"""The whole things that are changed: made once, in a folder that processes share."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np

from tests.artifacts import tiny_artifact, tiny_ir, tiny_tflite
from tests.bad_inputs.bad_reports import whole
from tests.clips import plain, write_clip
from toolchain.datasets.shares import split_by_hash
from toolchain.drawn.pets import draw
from toolchain.images.preprocess import Preprocess
from toolchain.images.reader import Photograph, Reader
from toolchain.system import files
from toolchain.system.progress import Silent

SIZE = 64
WANTED = {"train": 5, "val": 1, "calibration": 1, "test": 1}


def make_stock(folder: Path, *, runs: bool = True) -> None:
    """Fill `folder`. With `runs` it takes some seconds: a small network is trained."""
    tiny_artifact(folder / "tiny.onnx")
    tiny_ir(folder / "tiny.xml")
    tiny_tflite(folder / "tiny.tflite")
    cv2.imwrite(str(folder / "good.png"), plain("red"))
    _photographs(folder / "photos")
    if runs:
        _runs(folder)
    _pictures(folder)
    _archives(folder)
    _report(folder / "bench.json")
    reader = Reader(Preprocess(SIZE, SIZE, shortest_edge=SIZE), folder / "cache", Silent())
    for path in sorted((folder / "photos").rglob("*.jpg")):
        reader.prepare(Photograph(path.name, path, 0, files.sha256_of(path)), larger=True, thumbnail=True)
    reader.tidy()


def _photographs(root: Path) -> None:
    for label in ("cat", "dog", "fish"):
        (root / label).mkdir(parents=True)
        left = dict(WANTED)
        for index in range(1000):
            bgr = cv2.cvtColor(draw(label, index, size=96), cv2.COLOR_RGB2BGR)
            data = cv2.imencode(".jpg", bgr)[1].tobytes()
            split = split_by_hash(hashlib.sha256(data).hexdigest())
            if left[split]:
                left[split] -= 1
                (root / label / f"{index:03}.jpg").write_bytes(data)
            if not any(left.values()):
                break


def _runs(folder: Path) -> None:
    from toolchain.training import loop
    from toolchain.training.finetune import finetune
    from toolchain.training.settings import TrainSettings

    settings = TrainSettings(
        data=str(folder / "photos"), model="mobilenet_v3_small", weights="none", epochs=2, batch_size=8,
        device="cpu", cache=False, preprocess=Preprocess(SIZE, SIZE, shortest_edge=SIZE),
    )  # fmt: skip
    finetune(settings, folder / "run", command="edgetl finetune")
    original = loop.save_state

    def interrupted(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    loop.save_state = interrupted
    try:
        finetune(settings, folder / "unfinished")
    except KeyboardInterrupt:
        pass
    finally:
        loop.save_state = original


def _pictures(folder: Path) -> None:
    coarse = np.random.default_rng(14).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC)
    for kind in ("png", "jpg", "webp", "bmp", "tif", "gif", "avif"):
        if cv2.haveImageWriter(f"x.{kind}"):
            (folder / f"whole.{kind}").write_bytes(cv2.imencode(f".{kind}", picture)[1].tobytes())
    progressive = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    (folder / "whole.progressive.jpg").write_bytes(progressive)
    write_clip(folder / "clip.mp4", ["red"] * 3 + ["blue"] * 3)
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    for colour in ("red", "green", "blue"):
        writer.write(plain(colour))
    writer.release()
    frames = [cv2.cvtColor(plain(colour), cv2.COLOR_BGR2RGB) for colour in ("red", "green", "blue")]
    import PIL.Image

    first, *more = [PIL.Image.fromarray(frame) for frame in frames]
    for kind in ("gif", "webp"):
        first.save(folder / f"clip.{kind}", save_all=True, append_images=more, duration=40)


def _archives(folder: Path) -> None:
    members = {f"PetImages/{name}": str(name).encode() * 300 for name in ("Cat/0.jpg", "Dog/0.jpg", "Cat/é.jpg")}
    with zipfile.ZipFile(folder / "whole.zip", "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members.items():
            package.writestr(name, content)
    for kind, mode in (("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz"), ("tar.bz2", "w:bz2")):
        with tarfile.open(folder / f"whole.{kind}", mode) as tar:  # type: ignore[call-overload]
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _report(path: Path) -> None:
    path.write_text(json.dumps(whole()))
