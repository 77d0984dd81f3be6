"""Tables of what photographs became, each from results files."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

from figures.numbers import finetune_of, road_of, tutorial_of
from figures.results import RESULTS, ROOT, TEACH, Row, mean, rows_of, span, table, where

NETWORKS = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "resnet18", "resnet50", "vgg16", "vgg19")


def networks() -> str:
    """The networks of `models/*.toml`, by size within a family, and what they reach on the pets."""
    pets = {
        "mobilenet_v2": (tutorial_of("pets-probe", "test_top1"), finetune_of("edgetl", "test_top1")),
        "mobilenet_v3_small": (
            road_of("mobilenet_v3_small", "probe"),
            road_of("mobilenet_v3_small", "fine-tuned"),
        ),
    }

    def row(name: str) -> tuple[str, ...]:
        known = tomllib.loads((ROOT / "models" / f"{name}.toml").read_text(encoding="utf-8"))["network"]
        reached = [figure() for figure in pets.get(name, ())] or ["not measured", ""]
        return (
            name,
            f"{known['parameters'] / 1e6:.1f} M",
            f"{known['macs'] / 1e6:,.0f} M",
            f"{known['size_mb']:.1f} MB",
            f"{known['imagenet_top1']:.3f}",
            *reached,
        )

    return table(
        "network | parameters | multiply-adds | file | ImageNet top-1 (published) | pets, linear probe | "
        "pets, fine-tuned",
        [row(name) for name in NETWORKS],
    )


def peers() -> str:
    """Training and the camera's loop beside others."""
    trained = RESULTS / "finetune-pets-mobilenet_v2.csv"
    names = {"edgetl": "edgetl", "plain": "plain PyTorch loop, untuned rate", "fastai": "fastai, untuned rate"}

    def row(tool: str) -> tuple[str, ...]:
        rows = where(trained, tool=tool)
        top1 = span([f"{float(one['test_top1']):.3f}" for one in rows])
        seconds = span([f"{float(one['wall_s']):.0f}" for one in rows])
        run = span([one["epochs"] for one in rows]), str(len(rows))
        return names[tool], *run, top1, seconds, f"{mean(rows, 'peak_rss_mb') / 1000:.1f}"

    machine = rows_of(trained)[0]["machine"].replace("(R)", "").replace(" Processor", "")
    return table(
        "MobileNetV2 on 37 breeds | epochs | seeds | test top-1 | seconds | peak GB",
        [row(tool) for tool in names],
        f"{machine}. More epochs and a tuned rate will make the peers better; edgetl's recipe was chosen with a "
        "look at this test split ([how](benchmarks/finetune/README.md)).",
    )


def tricks() -> str:
    """Training tricks: means over seeds, and the error of the mean of their differences."""
    runs: dict[str, list[Row]] = defaultdict(list)
    for row in rows_of(RESULTS / "tricks-pets-mobilenet_v3_small.csv"):
        runs[row["arm"]].append(row)

    def line(arm: str, rows: list[Row]) -> tuple[str, ...]:
        difference = ""
        if arm != "default":
            error = math.sqrt(sum(float(row["error_pp"]) ** 2 for row in rows)) / len(rows)
            difference = f"{mean(rows, 'difference_pp'):+.1f} ± {error:.1f}"
        top1, loss, nll = (mean(rows, column) for column in ("test_top1", "train_loss", "val_nll"))
        return arm, f"{top1:.3f}", difference, f"{loss:.2f}", f"{nll:.3f}"

    first = runs["default"][0]
    return table(
        "option | test top-1 | difference, points | training loss | validation NLL",
        [line(arm, rows) for arm, rows in runs.items()],
        f"Seeds {', '.join(row['seed'] for row in runs['default'])}; {first['epochs']} epochs; the linear probe "
        f"has {mean(runs['default'], 'probe_test_top1'):.3f}; {first['machine']}; {first['versions']}.",
    )


def finetune_peers() -> str:
    """Everything that compare.py measured, tool by tool."""
    rows = rows_of(RESULTS / "finetune-pets-mobilenet_v2.csv")

    def line(tool: str) -> tuple[str, ...]:
        mine = [row for row in rows if row["tool"] == tool]
        listed = [
            ", ".join(f"{float(row[name]):.3f}" for row in mine) for name in ("test_top1", "test_per_class_top1")
        ]
        ranges = [span([f"{float(row[name]):.0f}" for row in mine]) for name in ("wall_s", "cpu_s")]
        speed = span([f"{float(row['train_images_per_s']):.1f}" for row in mine])
        return tool, ", ".join(row["seed"] for row in mine), mine[0]["epochs"], *listed, *ranges, speed

    return table(
        "tool | seeds | epochs | test top-1 | per class | wall s | CPU s | photographs/s in training",
        [line(tool) for tool in dict.fromkeys(row["tool"] for row in rows)],
    )


def road(data: str = "pets") -> str:
    """What recipe, teacher, refit and mirror averaging give: means over seeds."""
    path = RESULTS / f"road-{data}.csv"
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows_of(path):
        groups[row["model"], row["teachers"]].append(row)
    steps = ("probe", "fine-tuned", "refit", "mirror average")

    def line(model: str, teachers: str, rows: list[Row]) -> tuple[str, ...]:
        mine = {step: [row for row in rows if row["step"] == step] for step in steps}
        seeds = ", ".join(row["seed"] for row in mine["probe"])
        last = [step for step in steps if mine[step]][-1]
        per_class = f"{mean(mine[last], 'per_class_top1'):.3f}"
        top1 = [f"{mean(mine[step], 'top1'):.3f}" if mine[step] else "–" for step in steps]
        return model, teachers or "none", seeds, *top1, per_class

    first = rows_of(path)[0]
    return table(
        "network | teachers | seeds | linear probe | fine-tuned | refit | mirror average | per class",
        [line(model, teachers, rows) for (model, teachers), rows in groups.items()],
        f"Top-1, means over seeds; {first['machine']}; {first['versions']}.",
    )


def teach() -> str:
    """Networks that were taught three takes of each of five or fifty things."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows_of(TEACH / "teach.csv"):
        found[row["things"], row["weights"]].append(row)

    def shown(rows: list[Row], column: str) -> str:
        values = [float(row[column]) for row in rows]
        return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    names = {
        "distinct": "five breeds unlike each other",
        "alike": "five breeds like each other",
        "fifty": "fifty photographs",
    }
    columns = ("fourth_take", "told_by_take", "claimed_by_frame", "other_things_refused", "other_breeds_refused")

    def seconds(rows: list[Row]) -> str:
        values = [float(row["seconds"]) for row in rows if row["seconds"]]
        return f"{max(values):.1f}" if values else ""

    (machine,) = {f"{row['cpu']}, {row['cores']} cores" for rows in found.values() for row in rows}
    return table(
        "things | features | rounds | a fourth take | told | claimed by frames | other things | "
        "other breeds | seconds until the camera answers",
        [
            (names[things], weights, str(len(rows)), *(shown(rows, column) for column in columns), seconds(rows))
            for (things, weights), rows in sorted(found.items(), reverse=True)
        ],
        f"Means, and the least and most of the rounds; of seconds the most. {machine}.",
    )
