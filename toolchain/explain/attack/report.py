"""The results of attacks, on one photograph or on a data set: as a page, as JSON, as CSV and in a sentence."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.explain.attack import AttackConfig, AttackResult, Norm
from toolchain.explain.attack.dataset import AttackRow, DatasetAttack, Example, RobustnessPoint
from toolchain.explain.attack.one import Answer, OneAttack, Verdict
from toolchain.explain.gallery import Page, Picture, Section, Table, has_page, write
from toolchain.explain.pictures import magnified_change
from toolchain.explain.torch_model import TorchModel
from toolchain.images.preprocess import Image
from toolchain.system import files
from toolchain.system.text import harmless_cell

AXES: Mapping[Norm, str] = {
    "linf": "budget, 1/255 in each value",
    "l2": "budget, 1/255 in length",
}
SHOWN = 3
"""So many of the most probable classes before the attack, and after it, are drawn."""


def one_page(model: TorchModel, done: OneAttack, settings: Mapping[str, Any]) -> Page:
    """The page of one photograph: before, change and after, probabilities, and what each network says."""
    attacked, own = done.attacked, done.verdicts[0]
    change, strength = magnified_change(attacked.change[0])
    pictures = [
        Picture("before", done.placed.whole, "before", _facts(own.before)),
        Picture(
            "change",
            change,
            f"what was added, {strength} times as strong",
            {"at most, in a value": f"{attacked.largest[0]}/255", "L2 length": f"{attacked.length[0]:.0f}/255"},
        ),
        Picture("after", done.placed.with_pixels(attacked.pixels[0]), "after", _facts(own.after)),
    ]
    if done.least is not None and own.smallest is not None:
        whole = done.placed.with_pixels(done.least.attacked.pixels[0])
        caption = f"the smallest budget: {done.least.budget}"
        pictures.append(Picture("smallest", whole, caption, _facts(own.smallest)))
    smallest = "No budget is enough."
    if done.least is not None:
        smallest = f"The smallest budget that is enough is {done.least.budget}/255."
    plots = []
    if has_page():
        from toolchain.explain.plots import bars

        before, after = attacked.before[0], attacked.after[0]
        order = dict.fromkeys([*np.argsort(-before)[:SHOWN], *np.argsort(-after)[:SHOWN]])
        rows = [(model.labels[index], float(before[index]), float(after[index])) for index in order]
        plots.append(bars("probabilities", "Probabilities before and after the attack", rows))
    return Page(
        f"{done.photograph.name}, changed until it is {done.target or 'something else'}",
        [sentence(done), smallest],
        [
            Section("Before and after", pictures=pictures, plots=plots),
            Section(
                "Who is fooled by the saved files",
                "Each network read the PNG files back through its own preprocessing, as it is deployed.",
                table=Table(
                    ("network", "before", "after", "turned", "at the smallest budget"),
                    verdict_rows(done.verdicts),
                ),
            ),
        ],
        {**settings, **_how(model, done.config)},
    )


def sentence(done: OneAttack) -> str:
    """In one sentence: what the attacked network says before and after."""
    own = done.verdicts[0]
    within = _within(done.budget, done.config.norm)
    if bool(done.attacked.turned[0]):
        return (
            f"{own.before.label} ({own.before.probability:.3f}) became {own.after.label} "
            f"({own.after.probability:.3f}) {within}."
        )
    return f"{own.before.label} could not be turned into {done.target or 'something else'} {within}."


def _within(budget: int, norm: Norm) -> str:
    if norm == "linf":
        return f"while no value changed by more than {budget}/255"
    return f"by a change no longer than {budget}/255 (L2, over all values)"


def verdict_rows(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Rows of a table: network, answers before and after, whether it was fooled, and at the smallest budget."""
    names = _short_names(one.name for one in verdicts)
    return [_verdict_row(names[one.name], one) for one in verdicts]


def _verdict_row(name: str, verdict: Verdict) -> tuple[str, ...]:
    turned = "yes" if verdict.reached or (verdict.reached is None and verdict.turned) else "no"
    if verdict.turned and verdict.reached is False:
        turned = "otherwise"
    least = f"{verdict.smallest.label} {verdict.smallest.probability:.3f}" if verdict.smallest else "–"
    return (
        f"{name} on {verdict.device}",
        f"{verdict.before.label} {verdict.before.probability:.3f}",
        f"{verdict.after.label} {verdict.after.probability:.3f}",
        turned,
        least,
    )


def dataset_document(model: TorchModel, done: DatasetAttack) -> dict[str, Any]:
    """What `--json` prints of attacks on a data set."""
    split = {"split": done.split, "split_sha256": done.dataset.split_sha256(done.split)}
    return {
        "subject": model.name,
        "model": model.backbone,
        "data": {"name": done.dataset.name, **split},
        "settings": {**_settings(done.config), "budgets": done.budgets, "limit": done.limit},
        "target": done.target,
        "complete": done.complete,
        "photographs": len({row.photograph for row in done.rows}),
        "curve": done.curve,
    }


def write_dataset(
    folder: Path, model: TorchModel, done: DatasetAttack, document: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[str]:
    """Write the page, `attack.json` with `document`, and tables into `folder`; return the names of the files."""
    tables = {
        "curve.csv": as_csv(done.curve),
        "photographs.csv": as_csv(done.rows),
        "attack.json": files.to_json(document),
    }
    for file, content in tables.items():
        files.write_bytes(folder / file, content)
    return [*write(folder, dataset_page(model, done, settings)), *tables]


def dataset_page(model: TorchModel, done: DatasetAttack, settings: Mapping[str, Any]) -> Page:
    """A data set under attack: accuracy against budget, all networks beside each other, and a few pictures."""
    plots = []
    if has_page():
        from toolchain.explain.plots import curves

        budget = AXES[done.config.norm]
        lines = lines_of(done, "top1")
        if lines:
            plots.append(curves("accuracy", "Accuracy against budget", lines, budget, "top-1", shares=True))
        if done.target is not None:
            hits = lines_of(done, "target")
            plots.append(
                curves("hits", "Success against budget", hits, budget, f"taken for {done.target}", shares=True)
            )
    pictures = [
        Picture(
            f"example-{Path(example.photograph).stem}-{example.budget}",
            _side_by_side(example),
            f"{Path(example.photograph).name}, budget {example.budget}",
        )
        for example in done.examples
    ]
    sections = [
        Section(
            "Against budget",
            "Top-1 counts all photographs. `Turned` and `target` count those that the network answers right before "
            "the attack: the share that it then answers wrong, and the share that it takes for the target. "
            "`Transferred` is the same share among the pictures that fool the attacked run itself.",
            plots=plots,
            table=Table(POINT_COLUMNS, point_rows(done)),
        )
    ]
    if pictures:
        text = "As the network sees them: before, the change (as strong as can be shown), after."
        sections.append(Section("Some of them", text, pictures))
    title = f"{model.name} under attack" + (f": everything becomes {done.target}" if done.target else "")
    return Page(title, [conclusion(done)], sections, {**settings, **_how(model, done.config), "split": done.split})


POINT_COLUMNS = ("network", "budget", "photographs", "top-1", "right before", "turned", "target", "transferred")


def point_rows(done: DatasetAttack) -> list[tuple[str, ...]]:
    """The cells of POINT_COLUMNS, for each point of the curve."""
    names = _short_names(one.name for one in done.victims)
    return [_point_row(names[point.name], point) for point in done.curve]


def _point_row(name: str, point: RobustnessPoint) -> tuple[str, ...]:
    counted = (point.turned, point.target, point.transferred)
    return (
        f"{name} on {point.device}",
        str(point.budget),
        str(point.n),
        "–" if point.top1 is None else f"{point.top1:.3f}",
        str(point.n_right),
        *("–" if share is None else f"{share:.3f}" for share in counted),
    )


def lines_of(done: DatasetAttack, what: str) -> dict[str, tuple[list[float], list[float]]]:
    """A curve for each network that has one: the budgets, and the values of the field `what`."""
    lines = {}
    names = _short_names(one.name for one in done.victims)
    for one in done.victims:
        own = [point for point in done.curve if (point.name, point.device) == (one.name, one.device)]
        have = [(float(point.budget), getattr(point, what)) for point in own if getattr(point, what) is not None]
        if have:
            lines[f"{names[one.name]} on {one.device}"] = ([x for x, _ in have], [y for _, y in have])
    return lines


def _side_by_side(example: Example) -> Image:
    attacked = example.attacked
    change, _ = magnified_change(attacked.change[0])
    return np.concatenate([attacked.original[0], change, attacked.pixels[0]], axis=1)


def _facts(said: Answer) -> dict[str, str]:
    return {said.label: f"{said.probability:.3f}"}


def _short_names(names: Iterable[str]) -> dict[str, str]:
    """The last two parts of each path, the file and the run's folder; the whole path where others end alike."""
    short = {name: "/".join(Path(name).parts[-2:]) for name in names}
    counts = Counter(short.values())
    return {name: end if counts[end] == 1 else name for name, end in short.items()}


def one_document(model: TorchModel, done: OneAttack) -> dict[str, Any]:
    """What `--json` prints of an attack on one photograph."""
    least = done.least
    return {
        "subject": model.name,
        "model": model.backbone,
        "image": str(done.photograph),
        "settings": _settings(done.config),
        "target": done.target,
        "budget": done.budget,
        "turned": bool(done.attacked.turned[0]),
        "change": _change(done.attacked),
        "probabilities": {
            "before": dict(zip(model.labels, done.attacked.before[0].tolist(), strict=True)),
            "after": dict(zip(model.labels, done.attacked.after[0].tolist(), strict=True)),
        },
        "smallest": least
        and {
            "budget": least.budget,
            "change": _change(least.attacked),
            "tried": [{"budget": budget, "turned": turned} for budget, turned in least.tried.items()],
        },
        "answers": done.verdicts,
    }


def _how(model: TorchModel, config: AttackConfig) -> dict[str, Any]:
    """The settings that a page shows."""
    return {"model": model.backbone, **_settings(config)}


def _settings(config: AttackConfig) -> dict[str, Any]:
    used = {"method": config.method, "norm": config.norm}
    return {**used, "steps": config.steps, "seed": config.seed} if config.method == "pgd" else used


def _change(attacked: AttackResult) -> dict[str, float]:
    """The size of the change in L-infinity and in L2, in 1/255."""
    return {"largest": int(attacked.largest[0]), "length": round(float(attacked.length[0]), 2)}


def conclusion(done: DatasetAttack) -> str:
    """In one sentence: the accuracy of the attacked run at its smallest budget and at its largest."""
    start = done.curve[0]
    own = [point for point in done.curve if (point.name, point.device) == (start.name, start.device)]
    first, last = own[0], own[-1]
    so_far = "Interrupted. So far, " if not done.complete else ""
    said = (
        f"{so_far}top-1 of {first.n} photographs is {first.top1 or 0:.3f} at a budget of {first.budget} "
        f"and {last.top1 or 0:.3f} at {last.budget}."
    )
    if done.target is not None and last.target is not None:
        said += f" At {last.budget}, {last.target:.1%} of those that it knew are taken for {done.target}."
    return said


def as_csv(rows: Sequence[RobustnessPoint] | Sequence[AttackRow]) -> bytes:
    """CSV with a heading and a line for each of `rows`; None is an empty field."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        fields = asdict(row)
        if isinstance(fields.get("top1_ci95"), tuple):
            fields["top1_ci95"] = " ".join(f"{end:.4f}" for end in fields["top1_ci95"])
        writer.writerow({key: harmless_cell(one) if isinstance(one, str) else one for key, one in fields.items()})
    return text.getvalue().encode("utf-8", "backslashreplace")
