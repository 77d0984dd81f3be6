"""Is "at most 0.5 pp of top-1 lost" true of photographs that the gate of `export --int8` has not seen?

    edgetl export RUN    (for each run)
    EDGETL_DATA=FOLDER python benchmarks/int8/gate.py collect RUN... --answers ANSWERS
    python benchmarks/int8/gate.py judge --answers ANSWERS --out benchmarks/results/int8-gate.csv

`collect` quantises each run by every recipe once, trains the nearest integers where all are far, as export does,
and lets each file answer the training photographs that recipes are compared on, and all views of the validation
and the test photographs. `judge` shares these out anew, 300 times: as many as the run validates on judge, by the
code of the export, and the others are unseen. What a file loses on the unseen photographs is counted over all of
their views and over the photographs as they are.

The gate is also put to the test with its best recipes taken away, since it has to stop bad files too. The rule
`labels` is how export chose before: the recipe that agrees most on validation, of those that keep the limit there.
Answers are those of ONNX Runtime, and speed is left out.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from toolchain.artifact import Artifact, make_artifact, read_artifact
from toolchain.artifact.card import Accuracy, QuantizationRecipe
from toolchain.cli.console import Console
from toolchain.evaluation import metrics
from toolchain.export.int8.choosing import Choice, Entry
from toolchain.export.int8.qat import plan_of, train, trained
from toolchain.export.int8.quantisers import Candidate, Task, recipes
from toolchain.export.int8.quantize import QuantizedGraph
from toolchain.export.int8.search import COMPARED_ON, FAR_EPOCHS
from toolchain.export.int8.shortlist import far_spellings, to_train
from toolchain.export.int8.torch_graph import Graph
from toolchain.export.measure import logits_on, measured
from toolchain.export.photographs import RunPhotographs, Views
from toolchain.export.results import Attempt, Measurement, Nearness, QuantizationSettings
from toolchain.runs import read_run
from toolchain.runtimes.devices import cpu_name

DEVICE = "ort:cpu"
SHARES = 300
RULES = ("gate", "labels")
LEFT_OUT = (0, 1, 2)
RUINED = 0.5
"""Files that agree less with float are left out: they are never chosen."""
SETTINGS = QuantizationSettings(min_speed_up=0)
COLUMNS = (
    *("network", "run", "rule", "best_recipes_left_out", "chosen", "exports", "let_through", "kept", "kept_share"),
    *("mean_drop_pp", "p95_drop_pp", "max_drop_pp", "kept_share_plain", "agreement", "judged_by", "unseen", "cpu"),
)


@dataclass(frozen=True)
class Answers:
    """Logits of one file: `compared` [views, classes] on photographs without labels, `pool` [6 n, classes]."""

    label: str
    compared: NDArray[np.float32]
    pool: NDArray[np.float32]


@dataclass(frozen=True)
class Collected:
    """What `collect` keeps of a run. `labels` are those of the n photographs of the pool."""

    network: str
    run: str
    temperature: float
    validation: int
    labels: NDArray[np.int64]
    base: Answers
    files: tuple[Answers, ...]


def collect(folder: Path, out: Path, console: Console) -> None:
    run = read_run(folder)
    base = read_artifact(folder / "model.onnx")
    photographs = RunPhotographs(folder, run, None, console)
    compared, calibration = photographs.unlabelled(2 * COMPARED_ON), photographs.read("calibration")
    samples = [photographs.read(split) for split in ("val", "test")]
    pool = Views(np.concatenate([sample.pixels for sample in samples]))
    model = onnx.load_model_from_string(base.model)
    del model.metadata_props[:]

    found: dict[str, NDArray[np.float32]] = {}

    def answer(artifact: Artifact, label: str) -> None:
        first = logits_on(artifact, DEVICE, compared)
        known = [values for name, values in found.items() if name.endswith("/compared")]
        if any(np.allclose(first, values, atol=1e-3) for values in known):
            console.say(f"{folder.name}: {label} has the integers of another recipe")
        elif known and metrics.agreement(first.argmax(1), known[0].argmax(1)) < RUINED:
            console.say(f"{folder.name}: {label} is ruined")
        else:
            found[f"{label}/compared"] = first
            found[f"{label}/pool"] = logits_on(artifact, DEVICE, pool)

    def made(make: Callable[[], Candidate], label: str) -> Candidate:
        started = time.perf_counter()
        int8 = make()
        console.say(f"{folder.name}: {label} made in {time.perf_counter() - started:.1f} s")
        told = QuantizationRecipe(label, {}, calibration.split_sha256, len(calibration.labels))
        card = replace(base.card, precision="int8", recipe=told, runtimes=(DEVICE,))
        answer(make_artifact(int8.model, card, folder / "int8.onnx"), label)
        return int8

    answer(base, "float")
    entries = []
    for recipe in recipes(Task(model, calibration.pixels)):
        if not recipe.fallback:
            int8 = made(recipe.make, recipe.label)
            if f"{recipe.label}/compared" in found:
                exact, logits = found["float/compared"], found[f"{recipe.label}/compared"]
                divergence = float(metrics.divergence(logits, exact, run.temperature).mean())
                near = Nearness(DEVICE, len(logits), 0.0, divergence)
                entries.append(Entry(int8, Attempt(recipe.label, "", {}, (), 0.0, nearness=(near,))))
    if spellings := far_spellings(entries, [DEVICE]):
        apart = set(photographs.compared(2 * COMPARED_ON))
        numbers = [place for place in range(photographs.count("train")) if place not in apart]
        plan = plan_of(len(numbers), FAR_EPOCHS, run.settings["seed"])
        groups = [[numbers[place] for place in step.photographs] for step in plan]
        far = (entry.candidate for entry in to_train(entries) if entry.candidate.runtime in spellings)
        for start in far:
            assert start.quantized is not None

            def learnt(start: Candidate = start, quantized: QuantizedGraph = start.quantized) -> Candidate:
                batches = photographs.batches("train", groups)
                return trained(start, train(Graph(model), quantized, plan, batches, console), FAR_EPOCHS)

            made(learnt, f"{start.label}, trained")
    out.mkdir(parents=True, exist_ok=True)
    np.savez(
        out / f"{folder.name}.npz",
        network=run.model.name,
        temperature=run.temperature,
        validation=len(samples[0].labels),
        labels=np.concatenate([sample.labels for sample in samples]),
        **found,
    )


def read(path: Path) -> Collected:
    with np.load(path) as stored:
        labels = [name.removesuffix("/pool") for name in stored.files if name.endswith("/pool")]
        base, *files = (Answers(name, stored[f"{name}/compared"], stored[f"{name}/pool"]) for name in labels)
        return Collected(
            str(stored["network"]),
            path.stem,
            float(stored["temperature"]),
            int(stored["validation"]),
            stored["labels"],
            base,
            tuple(files),
        )


class Share:
    """One way to share out the photographs: those compared without labels, those that judge, and the unseen."""

    def __init__(self, collected: Collected, rng: np.random.Generator) -> None:
        n = len(collected.labels)
        order = rng.permutation(n)
        self.collected = collected
        self.judging, self.unseen = order[: collected.validation], order[collected.validation :]
        self.compared = rng.permutation(len(collected.base.compared))[:COMPARED_ON]

    def views(self, answers: Answers, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits of all views of the photographs at `places`, one view of all after the other."""
        pool = answers.pool.reshape(-1, len(self.collected.labels), answers.pool.shape[-1])
        return pool[:, places].reshape(-1, answers.pool.shape[-1])

    def measure(self, answers: Answers, places: NDArray[np.int64]) -> Measurement:
        """As `ExportContext.compare` does."""
        labels = self.collected.labels[places]
        base, logits = (self.views(one, places) for one in (self.collected.base, answers))
        agreement = metrics.agreement(logits.argmax(1), base.argmax(1))
        top1 = metrics.accuracy(logits[: len(labels)].argmax(1), labels).top1
        accuracy = Accuracy(DEVICE, "int8", "val", "0" * 64, len(labels), top1, top1, agreement)
        return measured(accuracy, base, logits, labels, self.collected.temperature)

    def nearness(self, answers: Answers) -> Nearness:
        base, logits = (one.compared[self.compared] for one in (self.collected.base, answers))
        divergence = metrics.divergence(logits, base, self.collected.temperature).mean()
        agreement = metrics.agreement(logits.argmax(1), base.argmax(1))
        return Nearness(DEVICE, len(logits), agreement, float(divergence))

    def by_gate(self, files: tuple[Answers, ...]) -> Answers | None:
        """What the export would let through."""
        entries = []
        for answers in files:
            candidate = Candidate("", answers.label, {}, onnx.ModelProto())
            attempt = Attempt(answers.label, "", {}, (), 0.0, nearness=(self.nearness(answers),))
            entries.append(Entry(candidate, attempt))
        by_entry = {id(entry): answers for entry, answers in zip(entries, files, strict=True)}
        choice = Choice(
            entries, [DEVICE], SETTINGS, lambda entry, _: self.measure(by_entry[id(entry)], self.judging)
        )
        return by_entry[id(choice.common)] if choice.common else None

    def by_labels(self, files: tuple[Answers, ...]) -> Answers | None:
        """What export let through before."""
        pairs = [(self.measure(answers, self.judging), answers) for answers in files]
        kept = [pair for pair in pairs if (pair[0].drop_pp or 0.0) <= SETTINGS.max_drop_pp]
        return max(kept, key=lambda pair: pair[0].accuracy.agreement or 0.0)[1] if kept else None


def judge(collected: Collected) -> Iterator[dict[str, object]]:
    """A row for each rule, and each number of best recipes that are taken away."""
    temperature = collected.temperature
    ranked = sorted(
        collected.files,
        key=lambda one: float(metrics.divergence(one.compared, collected.base.compared, temperature).mean()),
    )
    for left_out in LEFT_OUT:
        files = tuple(ranked[left_out:])
        for rule in RULES:
            rng = np.random.default_rng(0)
            drops, plain, agreements, names = [], [], [], []
            for _ in range(SHARES):
                share = Share(collected, rng)
                chosen = share.by_gate(files) if rule == "gate" else share.by_labels(files)
                if chosen is None:
                    continue
                unseen = share.measure(chosen, share.unseen)
                drops.append(unseen.drop_pp or 0.0)
                agreements.append(unseen.accuracy.agreement or 0.0)
                names.append(chosen.label)
                labels = collected.labels[share.unseen]
                right = [
                    (one.pool[: len(collected.labels)][share.unseen].argmax(1) == labels).mean()
                    for one in (collected.base, chosen)
                ]
                plain.append(100 * (right[0] - right[1]))
            if not drops:
                yield {"rule": rule, "best_recipes_left_out": left_out, "exports": SHARES, "let_through": 0}
                continue
            kept = sum(drop <= SETTINGS.max_drop_pp for drop in drops)
            counts = {name: names.count(name) for name in dict.fromkeys(names)}
            yield {
                "rule": rule,
                "best_recipes_left_out": left_out,
                "chosen": "; ".join(f"{name} {count}" for name, count in counts.items()),
                "exports": SHARES,
                "let_through": len(drops),
                "kept": kept,
                "kept_share": f"{kept / len(drops):.3f}",
                "mean_drop_pp": f"{np.mean(drops):.2f}",
                "p95_drop_pp": f"{np.percentile(drops, 95):.2f}",
                "max_drop_pp": f"{max(drops):.2f}",
                "kept_share_plain": f"{np.mean(np.array(plain) <= SETTINGS.max_drop_pp):.3f}",
                "agreement": f"{np.mean(agreements):.4f}",
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("collect", "judge"))
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    console = Console()
    if options.step == "collect":
        for folder in options.runs:
            collect(folder, options.answers, console)
        return
    rows = []
    for path in sorted(options.answers.glob("*.npz")):
        collected = read(path)
        n = len(collected.labels)
        told = {
            "network": collected.network,
            "run": collected.run,
            "judged_by": collected.validation,
            "unseen": n - collected.validation,
            "cpu": cpu_name(),
        }
        for row in judge(collected):
            console.say(f"{collected.run}: {row}")
            rows.append(told | row)
    through = [row for row in rows if row["rule"] == "gate" and row["let_through"]]
    kept, let = (sum(int(str(row[key])) for row in through) for key in ("kept", "let_through"))
    console.say(f"gate: {kept} of {let} exports that it let through kept the limit, {kept / max(let, 1):.3f}")
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
