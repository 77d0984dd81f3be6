"""A run of a network that edgetl did not train: no photographs have taught it here, and none are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from toolchain._version import __version__
from toolchain.datasets.splits import sha256_of_labelled
from toolchain.errors import BadInputError
from toolchain.images.preprocess import Preprocess
from toolchain.runs import RUN_FILE, RUN_SCHEMA, SPLITS_FILE, DataRecord, ModelRecord, Run
from toolchain.system import claims, files
from toolchain.training.context import describe_environment


@contextmanager
def adopting_into(out: Path) -> Iterator[None]:
    """Hold the folder `out` of a new run. Raises BadInputError where it holds something."""
    with claims.working_in(out, "adopting", "Wait until it has ended, or choose another --out."):
        if not claims.is_empty(out):
            raise BadInputError(f"{out} is there already and not empty", "Choose another --out.")
        yield


def untaught_run(
    model: ModelRecord, labels: Sequence[str], preprocess: Preprocess, name: str, data: Path | None, command: str
) -> Run:
    """The run of `model`; `name` is what taught it elsewhere, `data` a folder of photographs to measure it on."""
    return Run(
        schema=RUN_SCHEMA,
        edgetl_version=__version__,
        command=command,
        data=DataRecord(
            name=name,
            path="" if data is None else str(data.absolute()),
            classes=tuple(labels),
            counts={},
            skipped=0,
            sha256=sha256_of_labelled(()),
            split_sha256={},
        ),
        model=model,
        preprocess=preprocess,
        temperature=1.0,
        reject=None,
        settings={},
        environment=describe_environment(torch.device("cpu")),
        timings_s={},
        metrics={},
        probe_metrics={},
    )


def write_records(out: Path, run: Run) -> None:
    """The last files of a run, `run.json` after all others: a folder without it is no run."""
    files.write_json(out / SPLITS_FILE, {})
    files.write_json(out / RUN_FILE, run)
