"""A published network as it is, as a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolchain.adopt.drawn import drawn
from toolchain.adopt.record import adopting_into, untaught_run, write_records
from toolchain.backbones.networks import backbone_of
from toolchain.backbones.published import PublishedNetwork, open_published
from toolchain.export.exporting import write_unmeasured
from toolchain.export.photographs import folder_of
from toolchain.runs import ModelRecord, Run
from toolchain.system.progress import Reporter
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
    with adopting_into(out):
        opened = open_published(name, weights, labels)
        for remark in opened.pretrained.remarks():
            reporter.say(remark)
        run = _describe(opened, write_weights(out, opened.network), root, command)
        with reporter.task("writing ONNX", 1) as task:
            write_unmeasured(out, run, drawn(run.preprocess))
            task.advance()
        write_records(out, run)
    return run


def _describe(opened: PublishedNetwork, sha256: str, data: Path | None, command: str) -> Run:
    network, pretrained, told = opened.network, opened.pretrained, opened.told
    model = ModelRecord(
        name=backbone_of(network).name,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        weights=pretrained.source,
        weights_sha256=pretrained.sha256,
        weights_licence=pretrained.licence,
        sha256=sha256,
        kept="published",
        best_epoch=0,
    )
    return untaught_run(model, told.labels, told.preprocess, told.data, data, command)
