"""`toolchain.finetune` for programs: paths and plain values in, a run out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from toolchain.backbones import recipe_of
from toolchain.runs import Run
from toolchain.system.progress import Reporter
from toolchain.training import finetune as training
from toolchain.training.previous import Previous
from toolchain.training.settings import settings_for

MODEL, WEIGHTS = "mobilenet_v2", "imagenet"
"""What is trained where nothing is said."""


def finetune(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: str = MODEL,
    weights: str | os.PathLike[str] = WEIGHTS,
    probe_only: bool = False,
    from_run: str | os.PathLike[str] | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Run:
    """Train a classifier on photographs, as `edgetl finetune` does, and write a run into the folder `out`.

    >>> import toolchain
    >>> run = toolchain.finetune("photos", "runs/flowers", weights="ready-made", probe_only=True, seed=1)
    >>> run.data.classes
    ('daisy', 'tulip')
    >>> 0 <= run.metrics["test"].top1 <= 1
    True

    `data` holds a folder for each class, or is the name of a data set. `weights` is `imagenet`, `ready-made`,
    `none` or a file. `settings` are the fields of `toolchain.training.settings.TrainSettings`, such as `epochs` (0:
    as many as the photographs ask for), `seed` and `max_minutes`. For --size and --resize there is `preprocess`, a
    `toolchain.images.preprocess.Preprocess`; for --no-cache, `cache=False`; for --recipe, nothing. With `from_run`
    it goes on from the run in a folder, whose network, size and weights are taken; `Run.continuation` says how both
    compare. `teacher` is the folder of a run, or several of them.

    Raises BadInputError for data, weights or settings that cannot be used, and when `out` holds something already;
    MissingError when PyTorch is not installed.
    """
    settings = {"weights": os.fspath(weights), "probe_only": probe_only, **settings}
    teachers: Any = settings.get("teacher") or ()
    alone = isinstance(teachers, str | os.PathLike)
    settings["teacher"] = tuple(os.fspath(one) for one in ([teachers] if alone else teachers))
    if from_run is not None:
        previous = Previous.read(Path(from_run))
        asked = (None if model == MODEL else model, None if settings["weights"] == WEIGHTS else settings["weights"])
        settings = previous.settings(*asked, None, None, settings)
        model = previous.run.model.name
    chosen = settings_for(os.fspath(data), model, recipe_of(model), **settings)
    return training.finetune(chosen, Path(out), command="toolchain.finetune", reporter=reporter)
