"""A published network as it is, as a run: no photographs have taught it here, and none are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from toolchain._version import __version__
from toolchain.adopt.drawn import drawn
from toolchain.backbones.networks import backbone_of
from toolchain.backbones.published import PublishedNetwork, open_published
from toolchain.datasets.splits import sha256_of_labelled
from toolchain.errors import BadInputError
from toolchain.export.exporting import write_unmeasured
from toolchain.export.photographs import folder_of
from toolchain.runs import RUN_FILE, RUN_SCHEMA, SPLITS_FILE, DataRecord, ModelRecord, Run
from toolchain.system import claims, files
from toolchain.system.progress import Reporter
from toolchain.training.context import describe_environment
from toolchain.training.records import write_weights


def adopt_published(
    name: str,
    out: Path,
    *,
    weights: str = "imagenet",
    labels: Sequence[str] | None = None,
    data: Path | None = None,
    command: str = "",
    reporter: Reporter,
) -> Run:
    """Write the published network `name` as a run into the folder `out`, with a first `model.onnx`.

    `weights` are `imagenet`, `imagenet-v1` or a file, with their head; `labels` name its classes where they are not
    those that the network was published with. `data` is a folder of any photographs, for `export` to measure and
    calibrate on. Raises as `open_published`; BadInputError where `out` holds something; PromiseBrokenError where
    the file does not answer as the network.
    """
    root = folder_of(data) if data is not None else None
    with claims.working_in(out, "adopting", "Wait until it has ended, or choose another --out."):
        if not claims.is_empty(out):
            raise BadInputError(f"{out} is there already and not empty", "Choose another --out.")
        opened = open_published(name, weights, labels)
        for remark in opened.pretrained.remarks():
            reporter.say(remark)
        run = _describe(opened, write_weights(out, opened.network), root, command)
        files.write_json(out / SPLITS_FILE, {})
        with reporter.task("writing ONNX", 1) as task:
            write_unmeasured(out, run, drawn(run.preprocess))
            task.advance()
        # The last of all: a folder without it is no run.
        files.write_json(out / RUN_FILE, run)
    return run


def _describe(opened: PublishedNetwork, sha256: str, data: Path | None, command: str) -> Run:
    network, pretrained, told = opened.network, opened.pretrained, opened.told
    return Run(
        schema=RUN_SCHEMA,
        edgetl_version=__version__,
        command=command,
        data=DataRecord(
            name=told.data,
            path="" if data is None else str(data.absolute()),
            classes=told.labels,
            counts={},
            skipped=0,
            sha256=sha256_of_labelled(()),
            split_sha256={},
        ),
        model=ModelRecord(
            name=backbone_of(network).name,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            weights=pretrained.source,
            weights_sha256=pretrained.sha256,
            weights_licence=pretrained.licence,
            sha256=sha256,
            kept="published",
            best_epoch=0,
        ),
        preprocess=told.preprocess,
        temperature=1.0,
        reject=None,
        settings={},
        environment=describe_environment(torch.device("cpu")),
        timings_s={},
        metrics={},
        probe_metrics={},
    )
