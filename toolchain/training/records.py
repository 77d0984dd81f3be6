"""What a run leaves in its folder for people and programs: its course, its answers, its splits, its description."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save
from torch import nn

from toolchain._version import __version__
from toolchain.backbones.networks import backbone_of
from toolchain.backbones.weights import Pretrained
from toolchain.datasets import SPLITS, Dataset
from toolchain.datasets.index import by_reason
from toolchain.errors import BadInputError
from toolchain.runs import (
    LEFT_OUT_FILE,
    METRICS_CSV_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RUN_SCHEMA,
    SPLITS_FILE,
    WEIGHTS_FILE,
    Continuation,
    CrossValidation,
    DataRecord,
    Metrics,
    ModelRecord,
    Run,
    SplitFile,
)
from toolchain.system import files
from toolchain.system.text import escaped, harmless_cell
from toolchain.training.context import TrainContext, describe_environment
from toolchain.training.evaluator import Evaluation
from toolchain.training.report import Answers
from toolchain.training.teacher import describe_teachers


def read_lines(folder: Path) -> list[dict[str, float]]:
    """The epochs of the run in `folder`, first one first. Raises BadInputError when the file is damaged."""
    path = folder / METRICS_FILE
    return [_epoch(path, line) for line in _read(path).splitlines()] if path.exists() else []


def append_line(folder: Path, line: Mapping[str, float]) -> None:
    """Add a finished epoch to `metrics.jsonl`, and write all of it as `metrics.csv` for spreadsheets."""
    with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    lines = read_lines(folder)
    _write_csv(folder / METRICS_CSV_FILE, list(lines[0]), (line.values() for line in lines))


def keep_lines(folder: Path, count: int) -> None:
    """Drop what an interrupted epoch may have left after the last checkpoint.

    Raises BadInputError when what is kept is damaged: it would be found at the end of the next epoch.
    """
    path = folder / METRICS_FILE
    lines = _read(path).splitlines(keepends=True)[:count] if path.exists() else []
    for line in lines:
        _epoch(path, line)
    files.write_bytes(path, b"".join(lines))  # a new file, should a link of that name lead elsewhere


def write_predictions(folder: Path, dataset: Dataset, answers: Mapping[str, Answers]) -> None:
    """Write `predictions.csv`: what the kept network answered on every photograph of val and test; after a refit,
    which val has taught, what the network before answered on val."""
    rows = []
    for split, given in answers.items():
        for photo, row in zip(given.photos, given.probabilities, strict=True):
            answer = int(row.argmax())
            names = dataset.classes[photo.label], dataset.classes[answer]
            rows.append([split, escaped(photo.name), *names, f"{row[answer]:.6f}", f"{row[photo.label]:.6f}"])
    header = ["split", "name", "label", "answer", "probability", "label_probability"]
    _write_csv(folder / PREDICTIONS_FILE, header, rows)


def write_splits(folder: Path, dataset: Dataset) -> None:
    """Write which photograph is in which split, and which files of the data are in none."""
    document = {
        split: [
            SplitFile(photo.name, photo.sha256, dataset.classes[photo.label]) for photo in dataset.splits[split]
        ]
        for split in SPLITS
    }
    files.write_json(folder / SPLITS_FILE, document)
    files.write_json(folder / LEFT_OUT_FILE, dataset.left_out)


def write_weights(folder: Path, network: nn.Module) -> str:
    """Write the weights of `network`, which is on the CPU; return the file's SHA-256."""
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    files.write_bytes(folder / WEIGHTS_FILE, save(weights))
    return files.sha256_of(folder / WEIGHTS_FILE)


def describe_run(
    context: TrainContext,
    network: nn.Module,
    sha256: str,
    pretrained: Pretrained,
    best_epoch: int,
    kept: Evaluation,
    probe: Evaluation,
    crossed: CrossValidation | None,
    skipped: int,
    command: str,
    *,
    before_refit: dict[str, Metrics],
    continuation: Continuation | None,
) -> Run:
    """What `run.json` will say. `sha256` is that of the weights, `skipped` counts unreadable photographs."""
    settings = context.settings
    kind: Literal["probe", "finetune"] = "finetune" if best_epoch else "probe"
    return Run(
        schema=RUN_SCHEMA,
        edgetl_version=__version__,
        command=command,
        data=_describe_data(context.dataset, skipped),
        model=ModelRecord(
            name=backbone_of(network).name,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            weights=pretrained.source,
            weights_sha256=pretrained.sha256,
            weights_licence=pretrained.licence,
            sha256=sha256,
            kept=kind,
            best_epoch=best_epoch,
            refit=bool(before_refit),
            teachers=describe_teachers(settings.teacher if best_epoch else ()),
        ),
        preprocess=settings.preprocess,
        temperature=kept.temperature,
        reject=kept.rejection.reject,
        settings=asdict(settings),
        environment={**describe_environment(context.device), "processes": context.team.size},
        timings_s=context.seconds,
        metrics=kept.metrics,
        probe_metrics=probe.metrics,
        rejection=kept.rejection,
        temperature_fit=kept.temperature_fit,
        cross_validation=crossed,
        before_refit=before_refit,
        continuation=continuation,
    )


def _describe_data(dataset: Dataset, skipped: int) -> DataRecord:
    return DataRecord(
        name=dataset.name,
        path=str(dataset.root),
        classes=dataset.classes,
        counts={split: len(dataset.splits[split]) for split in SPLITS},
        skipped=skipped,
        sha256=dataset.sha256,
        split_sha256={split: dataset.split_sha256(split) for split in SPLITS},
        licences=dataset.licences,
        left_out={reason: len(names) for reason, names in by_reason(dataset.left_out).items()},
    )


def _read(path: Path) -> bytes:
    return files.read_regular(path, files.MAX_JSON_BYTES)


def _epoch(path: Path, line: bytes) -> dict[str, float]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadInputError(f"{path} is damaged", "Start the run again.")
    return found


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    for row in (header, *rows):
        writer.writerow([harmless_cell(one) if isinstance(one, str) else one for one in row])
    files.write_bytes(path, text.getvalue().encode())
