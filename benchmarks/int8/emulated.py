"""Does int8 answer right on a CPU without VNNI? ONNX Runtime's own kernels, on this CPU and on an emulated one.

    EDGETL_DATA=FOLDER python benchmarks/int8/emulated.py --answers ANSWERS

Needs an x86-64 CPU with VNNI and `qemu-x86_64` (Debian: qemu-user), whose `max` CPU has AVX2 and no VNNI: there,
sums of two products of uint8 and int8 saturate at 16 bits. The pets model is quantised with 8-bit weights and,
portably, with 7-bit ones; float and both answer 240 test photographs. Answers stay in the folder ANSWERS.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

PHOTOGRAPHS = 240
EMULATOR = ("qemu-x86_64", "-cpu", "max")
FILES = ("float", "8-bit weights", "7-bit weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/int8-emulated.csv"))
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.answers
    if options.answer:
        answer(folder, options.answer)
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "photographs.npz").exists():
        make(folder)
    rows = []
    wanted = logits_of(folder, "float", emulated=False)
    labels = np.load(folder / "photographs.npz")["labels"]
    for name in FILES:
        native = logits_of(folder, name, emulated=False)
        for emulated in (False, True) if name != "float" else (False,):
            logits = logits_of(folder, name, emulated=True) if emulated else native
            rows.append(
                {
                    "file": name,
                    "cpu": "emulated, AVX2 without VNNI" if emulated else "this one, with VNNI",
                    "photographs": len(labels),
                    "top1": f"{(logits.argmax(1) == labels).mean():.4f}",
                    "agreement": f"{(logits.argmax(1) == wanted.argmax(1)).mean():.4f}",
                    "equal_to_native": f"{(logits == native).all(1).mean():.4f}",
                }
            )
            print(*rows[-1].values(), sep="  ")
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def make(folder: Path) -> None:
    """Quantise the pets model both ways, and put test photographs as the network sees them beside."""
    import onnx
    import torch
    from safetensors.numpy import load_file

    from toolchain.artifact import read_artifact
    from toolchain.backbones.networks import build
    from toolchain.datasets.catalogue import open_dataset
    from toolchain.datasets.splits import stratified
    from toolchain.export.int8.quantisers import Task, recipes
    from toolchain.export.onnx_writer import to_onnx
    from toolchain.images.preprocess import read

    artifact = read_artifact(Path("models/pets/model.int8.onnx"))
    card = artifact.card
    network = build(card.source.model, len(card.labels))
    weights = load_file("models/pets/model.safetensors")
    network.load_state_dict({key: torch.from_numpy(value).float() for key, value in weights.items()})
    dataset = open_dataset("pets")

    def take(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        photos = dataset.splits[split]
        order = stratified([photo.label for photo in photos], [photo.sha256 for photo in photos])[:count]
        pixels = np.stack([card.preprocess(read(photos[i].path)) for i in order])
        return pixels, np.array([card.labels.index(dataset.classes[photos[i].label]) for i in order])

    model = to_onnx(network.eval(), card.preprocess, card.temperature)
    onnx.save(model, folder / "float.onnx")
    calibration, _ = take("train", 96)
    for name, portable in (("8-bit weights", False), ("7-bit weights", True)):
        made = recipes(Task(model, calibration, portable=portable))[0].make()
        onnx.save(made.model, folder / f"{name}.onnx")
    pixels, labels = take("test", PHOTOGRAPHS)
    np.savez(folder / "photographs.npz", pixels=pixels, labels=labels)


def logits_of(folder: Path, name: str, *, emulated: bool) -> np.ndarray:
    path = folder / f"{name}{', emulated' if emulated else ''}.npy"
    if not path.exists():
        command = [sys.executable, __file__, "--answers", str(folder), "--answer", path.stem]
        subprocess.run([*EMULATOR, *command] if emulated else command, check=True)
    return np.asarray(np.load(path))


def answer(folder: Path, stem: str) -> None:
    """In a process of its own, perhaps an emulated one: answer all photographs, one at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    file = folder / f"{stem.removesuffix(', emulated')}.onnx"
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    pixels = np.load(folder / "photographs.npz")["pixels"]
    np.save(
        folder / f"{stem}.npy", np.concatenate([session.run(["logits"], {"image": one[None]})[0] for one in pixels])
    )


if __name__ == "__main__":
    main()
