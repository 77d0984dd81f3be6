"""Several processes train as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from toolchain.system.progress import Silent
from toolchain.training import evaluator
from toolchain.training.batches import steps_of
from toolchain.training.settings import TrainSettings
from toolchain.training.team import Team

ROOT = Path(__file__).parents[2]


def _finetune(processes: int, data: Path, weights: Path, out: Path, cache: Path, *more: str) -> dict[str, object]:
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    arguments = [
        *(str(data), "--model", "mobilenet_v3_small", "--weights", str(weights), "--size", "64"),
        *("--epochs", "2", "--batch-size", "7", "--device", "cpu", "--out", str(out), "--json", "--quiet"),
        # Rounding to bfloat16 depends on the size of a batch.
        *("--precision", "float32"),
        *more,
    ]
    finished = subprocess.run(
        [*launch, "-m", "toolchain", "finetune", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "EDGETL_CACHE": str(cache)},
    )
    assert finished.returncode == 0, finished.stderr
    document: dict[str, object] = json.loads(finished.stdout)
    return document


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(tmp_path: Path, drawn_folder: Path, weights: Path) -> None:
    one = _finetune(1, drawn_folder, weights, tmp_path / "one", tmp_path / "cache")
    # 15 photographs in batches of 7 leave a last batch of one, which only one of two processes has.
    two = _finetune(2, drawn_folder, weights, tmp_path / "two", tmp_path / "cache")
    first = load_file(tmp_path / "one" / "checkpoint" / "state.safetensors")
    second = load_file(tmp_path / "two" / "checkpoint" / "state.safetensors")
    start = load_file(weights)
    moved = [name for name in start if not torch.equal(first[f"network/{name}"], start[name])]
    assert "features.12.0.weight" in moved
    for group in ("network", "average"):
        change = sum(float((first[f"{group}/{name}"] - start[name]).square().sum()) for name in moved)
        apart = sum(float((first[f"{group}/{name}"] - second[f"{group}/{name}"]).square().sum()) for name in moved)
        assert apart < 0.005**2 * change
    assert one["model"]["kept"] == two["model"]["kept"]  # type: ignore[index]
    assert one["metrics"]["test"]["confusion"] == two["metrics"]["test"]["confusion"]  # type: ignore[index]
    assert two["environment"]["processes"] == 2  # type: ignore[index]
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    alone = [json.loads(line) for line in (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in alone], rel=1e-3)


EPOCH = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from toolchain.backbones.networks import build
from toolchain.backbones.weights import load_pretrained
from toolchain.datasets.catalogue import open_dataset
from toolchain.images.preprocess import Preprocess
from toolchain.images.reader import Reader
from toolchain.system.progress import Silent
from toolchain.training.batches import training_batches
from toolchain.training.context import TrainContext
from toolchain.training.settings import TrainSettings
from toolchain.training.team import joined
from toolchain.training.trainer import Trainer

data, weights, out = sys.argv[1:]
spec = Preprocess().with_size(64)
settings = TrainSettings(
    data, "mobilenet_v3_small", weights, batch_norm="trained", batch_size=7, precision="float32", preprocess=spec
)
device = torch.device("cpu")
with joined(device) as team:
    dataset = open_dataset(data)
    network = build(settings.model, len(dataset.classes))
    load_pretrained(network, settings.model, weights)
    reader = Reader(spec, None, Silent())
    context = TrainContext(settings, dataset, (), reader, device, team, Path(out), Silent())
    trainer = Trainer(network, context, training_batches(context))
    trainer.epoch(1, 2)
    save_file(trainer.average.state_dict(), Path(out, f"{team.rank}.safetensors"))
"""


@pytest.mark.slow
def test_processes_evaluate_one_and_the_same_network(tmp_path: Path, drawn_folder: Path, weights: Path) -> None:
    """Each learns statistics of BatchNorm from its own photographs; a share of val is then judged by each."""
    script = tmp_path / "epoch.py"
    script.write_text(EPOCH)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    done = subprocess.run(
        [*launch, str(drawn_folder), str(weights), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = load_file(weights)
    assert any(not torch.equal(first[name], start[name]) for name in start if "running_mean" in name)


@pytest.mark.parametrize(("photos", "batch", "size"), [(15, 7, 2), (9, 4, 3), (5, 8, 4), (8, 4, 2)])
def test_processes_share_every_batch(photos: int, batch: int, size: int) -> None:
    settings = TrainSettings("unused", batch_size=batch)
    shares = [steps_of(photos, settings, 3, Team(rank, size)) for rank in range(size)]
    (whole,) = [steps_of(photos, settings, 3, Team())]
    for number, step in enumerate(whole):
        mine = [share[number] for share in shares]
        together = np.concatenate([part.mine for part in mine if part.weight])
        assert sorted(together) == sorted(step.mine)
        assert {part.size for part in mine} == {len(step.mine)}
        assert all(len(part.mine) for part in mine)


def test_every_epoch_has_its_own_order() -> None:
    settings = TrainSettings("unused", batch_size=100)
    orders = [steps_of(20, settings, epoch, Team())[0].mine.tolist() for epoch in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]


def test_there_may_be_more_processes_than_photographs() -> None:
    """Each evaluates its share: the last ones have none."""
    gathered: list[object] = []

    class Last(Team):
        def all_gather(self, mine):  # type: ignore[no-untyped-def]
            gathered.extend(mine)
            return [np.zeros(3, np.float32)] * 2

    context = SimpleNamespace(team=Last(3, 4), reader=None, reporter=Silent())
    photos = [object(), object()]
    found = evaluator._extracted(context, photos, lambda batches: 1 / 0, "val")  # type: ignore[arg-type]
    assert found.shape == (2, 3)
    assert gathered == []
