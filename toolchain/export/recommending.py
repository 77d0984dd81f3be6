"""What an export recommends: its files beside each other in every way that they are proven in, in turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolchain import recommended
from toolchain.artifact import FLOAT_FILE, read_artifact
from toolchain.export.measure import ExportContext
from toolchain.recommended import Candidate, Record
from toolchain.runtimes.devices import cores
from toolchain.timing import time_pairs

SAMPLE = 32
"""Photographs that files are timed on."""


def recommend(context: ExportContext, files: Sequence[Path]) -> Record | None:
    """Time `files`, which are written and kept their promises, on as many threads as they will have, and write what
    is recommended into their folder, if that stands for them: with another name of `--out` it does not.

    They are timed again, although the search did: there the fastest of several was chosen, which flatters it, and
    its rival in bfloat16 was not among them. None where there is nothing to choose among.
    """
    artifacts = [read_artifact(path) for path in files]
    pairs = [(artifact, device) for artifact in artifacts for device in artifact.card.runtimes]
    timed = time_pairs(pairs, [cores()], context.sample.first(SAMPLE), context.reporter, in_order=True)
    candidates = [
        Candidate(
            one.artifact.path.name,
            one.artifact.sha256,
            one.artifact.card.precision,
            one.device,
            one.threads,
            one.p50_ms,
            one.process_ms,
            one.artifact.size_mb,
        )
        for one in timed
        if one.p50_ms is not None
    ]
    found = recommended.record("edgetl export", candidates)
    if found is not None and context.path.name == FLOAT_FILE:
        recommended.write(context.path.parent, found)
    return found
