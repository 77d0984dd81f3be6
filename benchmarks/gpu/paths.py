"""Every path of edgetl that needs an NVIDIA GPU, run once: training, answers, latency, and what must be refused.

    EDGETL_DATA=FOLDER python benchmarks/gpu/paths.py pets --weights mobilenet_v2.safetensors --out RESULTS

Each part runs in a process of its own with a limit in time, so that one that hangs or crashes does not lose the
others. RESULTS gets `paths.json`, with a status for each part, and the run and bench folders. Exit code 1 if a part
failed. Parts: doctor; train-bf16, train-float32, train-streamed (crops cut on the CPU); nccl (gradients, sums and
objects in a group of one process); torchrun (two processes, of which one finds no GPU); export; answers (each file
on each device beside ONNX Runtime on the CPU); bench (latency and throughput by batch).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

LIMIT_S = {"train-bf16": 240, "train-float32": 240, "train-streamed": 240, "bench": 240}
"""How long a part may take; 120 s if it is not named here."""
PHOTOGRAPHS = 256
"""How many test photographs are answered on each device."""
DEVICES = (
    "torch:cuda",
    "torch:cuda+graph",
    "torch:cuda+bf16",
    "torch:cuda+fp16",
    "torch:cuda+fp16+graph",
    "torch:cuda+compile",
    "ort:cuda",
    "ort:tensorrt",
)
FLOAT32_TOLERANCE, HALF_AGREEMENT = 1e-4, 0.99
"""float32: relative difference of logits; half precision: share of equal answers."""
BENCHED = ("torch:cuda", "torch:cuda+fp16+graph", "ort:cuda", "ort:tensorrt", "ort:cpu")
BATCHES = "1,32"
BATCH = 8
"""Pictures that are answered at once where answers are compared."""

Found = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; can be given again")
    parser.add_argument("--inside", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(PARTS[options.inside](options)))
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "paths.json"
    found: Found = json.loads(results.read_text()) if results.exists() else {}
    for part in options.part or PARTS:
        found[part] = in_process_of_its_own(part)
        results.write_text(json.dumps(found, indent=1) + "\n")
        print(
            f"{part}: {found[part]['status']}, {found[part]['seconds']} s  {found[part].get('reason', '')}",
            flush=True,
        )
    return int(any(one["status"] == "failed" for one in found.values()))


def in_process_of_its_own(part: str) -> Found:
    """Run `part` with these arguments; what it found, or why it failed."""
    started = time.perf_counter()
    command = [sys.executable, __file__, *sys.argv[1:], "--inside", part]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S.get(part, 120), check=False)
        if done.returncode:
            found = {"status": "failed", "reason": done.stderr[-2000:]}
        else:
            found = {"status": "ok"} | json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        found = {"status": "failed", "reason": f"it took more than {LIMIT_S.get(part, 120)} s"}
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def doctor(options: argparse.Namespace) -> Found:
    """What `edgetl doctor` says of this machine, and the GPU's own words."""
    said = edgetl("doctor", "--json")
    kept = ("works", "environment", "int8", "fastest", "devices", "torch_pairing")
    return {"doctor": {key: said[key] for key in kept}, "gpu": output(["nvidia-smi", "-L"]).strip()}


def train_bf16(options: argparse.Namespace) -> Found:
    """As by default: photographs and crops on the GPU, arithmetic in bfloat16."""
    return trained(options, "bf16")


def train_float32(options: argparse.Namespace) -> Found:
    return trained(options, "float32", precision="float32")


def train_streamed(options: argparse.Namespace) -> Found:
    """As where the photographs do not fit into the GPU's memory: crops are cut on the CPU and copied."""
    from toolchain.training import batches

    batches.SHARE_OF_MEMORY = 0.0
    return trained(options, "streamed")


def trained(options: argparse.Namespace, name: str, **settings: Any) -> Found:
    import torch

    from toolchain.backbones import recipe_of
    from toolchain.system.progress import Silent
    from toolchain.training.finetune import finetune
    from toolchain.training.settings import settings_for

    folder = options.out / name
    shutil.rmtree(folder, ignore_errors=True)
    chosen = settings_for(
        options.data, options.model, recipe_of(options.model), weights=options.weights, device="cuda", **settings
    )
    run = finetune(chosen, folder, reporter=Silent())
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = max(one["val_top1"] for one in epochs)
    plateau = next(one["epoch"] for one in epochs if one["val_top1"] >= best - 0.01)
    return {
        "device": run.environment["device_name"],
        "top1": {split: run.metrics[split].top1 for split in run.metrics},
        "timings_s": run.timings_s,
        "epochs": len(epochs),
        "plateau_epoch": plateau,
        "plateau_s": round(
            run.timings_s["data"] + run.timings_s["probe"] + sum(one["seconds"] for one in epochs[:plateau]), 1
        ),
        "images_per_s": epochs[-1]["images_per_s"],
        "peak_memory_mb": torch.cuda.max_memory_allocated() // 2**20,
    }


def nccl(options: argparse.Namespace) -> Found:
    """DistributedDataParallel over NCCL in a group of one: the gradients without it, and all that Team needs."""
    import torch
    from torch import distributed, nn

    device = torch.device("cuda", 0)
    alone = {"rank": 0, "world_size": 1, "store": distributed.HashStore()}
    distributed.init_process_group("cpu:gloo,cuda:nccl", **alone)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)).to(
        device
    )
    images = torch.randn(4, 3, 16, 16, device=device)
    plain(images).square().mean().backward()
    expected = [parameter.grad.clone() for parameter in plain.parameters()]
    plain.zero_grad(set_to_none=True)
    shared = nn.parallel.DistributedDataParallel(plain, device_ids=[0], broadcast_buffers=False)
    shared(images).square().mean().backward()
    difference = max(
        float((parameter.grad - one).abs().max())
        for parameter, one in zip(plain.parameters(), expected, strict=True)
    )
    total = torch.ones(3, device=device)
    distributed.all_reduce(total)
    objects: list[Any] = [None]
    distributed.all_gather_object(objects, {"loss": 1.5})
    box = [{"chosen": 3}]
    distributed.broadcast_object_list(box)
    distributed.destroy_process_group()
    assert difference < 1e-6
    assert (total.tolist(), objects, box) == ([1, 1, 1], [{"loss": 1.5}], [{"chosen": 3}])
    return {"gradients_differ_by": difference, "nccl": ".".join(map(str, torch.cuda.nccl.version()))}


def torchrun(options: argparse.Namespace) -> Found:
    """Two processes where there is one GPU: the second must say so, and nothing may stay."""
    folder = options.out / "two"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "toolchain",
    ]
    command += [
        "finetune",
        options.data,
        "--model",
        options.model,
        "--weights",
        options.weights,
        "--device",
        "cuda",
    ]
    done = subprocess.run(
        [*command, "--probe-only", "--out", str(folder)], capture_output=True, text=True, timeout=110, check=False
    )
    import torch

    if torch.cuda.device_count() > 1:
        assert done.returncode == 0, done.stderr
        return {"processes": 2}
    assert done.returncode != 0, done.stderr
    assert "finds 1 CUDA device" in done.stderr, done.stderr
    return {"refused": True, "left": sorted(one.name for one in folder.glob("*"))}


def export(options: argparse.Namespace) -> Found:
    edgetl("export", str(options.out / "bf16"), "--fp16", "--json")
    return {"files": sorted(one.name for one in (options.out / "bf16").glob("*.onnx"))}


def answers(options: argparse.Namespace) -> Found:
    """Each file on each device beside the float file on ONNX Runtime's CPU."""
    import numpy as np

    from toolchain.datasets.catalogue import open_dataset
    from toolchain.errors import EdgetlError
    from toolchain.images.cache import cache_folder
    from toolchain.images.reader import Reader
    from toolchain.system.progress import Silent

    folder = options.out / "bf16"
    photos = open_dataset(options.data, reporter=Silent()).splits["test"]
    photos = photos[:: max(1, len(photos) // PHOTOGRAPHS)][:PHOTOGRAPHS]
    pictures: list[Any] = []
    wanted: np.ndarray | None = None
    rows = []
    for name, device in [("model.onnx", "ort:cpu"), *((n, d) for d in DEVICES for n in files_for(d))]:
        row: Found = {"file": name, "device": device}
        rows.append(row)
        try:
            classifier = opened(folder / name, device)
            if not pictures:
                reader = Reader(classifier.card.preprocess, cache_folder(), Silent())
                pictures = [reader.input(photo) for photo in photos]
            starts = range(0, len(pictures), BATCH)
            logits = np.concatenate([classifier.infer(pictures[at : at + BATCH]).logits for at in starts])
        except EdgetlError as error:
            row |= {"status": "missing" if error.exit_code == 3 else "failed", "reason": str(error)}
            continue
        except Exception:
            row |= {"status": "failed", "reason": traceback.format_exc()[-1500:]}
            continue
        wanted = logits if wanted is None else wanted
        difference = float(np.abs(logits - wanted).max() / np.abs(wanted).max())
        agreement = float((logits.argmax(1) == wanted.argmax(1)).mean())
        exact = name == "model.onnx" and not {"bf16", "fp16"} & set(device.split("+"))
        kept = difference <= FLOAT32_TOLERANCE if exact else agreement >= HALF_AGREEMENT
        row |= {
            "status": "ok" if kept else "differs",
            "relative_difference": difference,
            "agreement": agreement,
            "provider_effective": classifier.runtime.provider_effective,
        }
    failed = [row for row in rows if row["status"] in {"failed", "differs"}]
    return {"status": "failed" if failed else "ok", "photographs": len(pictures), "rows": rows}


def opened(path: Path, device: str) -> Any:
    """`path` on `device`, made fastest for BATCH pictures at once."""
    from toolchain.artifact import read_artifact
    from toolchain.classifier import Classifier
    from toolchain.runtimes import open_runtime

    artifact = read_artifact(path)
    return Classifier(artifact.card, open_runtime(artifact, device, batch=BATCH, unproven=True))


def files_for(device: str) -> tuple[str, ...]:
    return ("model.onnx",) if device.startswith("torch") else ("model.onnx", "model.fp16.onnx")


def bench(options: argparse.Namespace) -> Found:
    """`edgetl bench` of the run on all of its GPU devices."""
    devices = [text for device in BENCHED for text in ("--device", device)]
    arms = [*devices, "--batch", BATCHES, "--limit", "0", "--rounds", "1"]
    found = edgetl("bench", str(options.out / "bf16"), *arms, "--out", str(options.out / "bench"), "--json")
    keys = ("artifact", "device", "batch", "status", "reason", "provider_effective", "throughput_ips", "load_ms")
    return {
        "arms": [
            {key: arm[key] for key in keys}
            | {"p50_ms": (arm["latency_ms"] or {}).get("p50"), "top1": (arm["accuracy"] or {}).get("top1")}
            for arm in found["arms"]
        ]
    }


def edgetl(*arguments: str) -> Found:
    """The JSON document that the command prints; a noisy bench is one, too."""
    done = subprocess.run(
        [sys.executable, "-m", "toolchain", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 4}, f"exit code {done.returncode}: {done.stderr[-1500:]}"
    document: Found = json.loads(done.stdout)
    return document


def output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


PARTS = {
    "doctor": doctor,
    "train-bf16": train_bf16,
    "train-float32": train_float32,
    "train-streamed": train_streamed,
    "nccl": nccl,
    "torchrun": torchrun,
    "export": export,
    "answers": answers,
    "bench": bench,
}

if __name__ == "__main__":
    sys.exit(main())
