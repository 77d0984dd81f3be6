"""`edgetl demo`."""

from __future__ import annotations

import time
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolchain.cli.console import Console, needs, output_options
from toolchain.cli.tables import Column, Table
from toolchain.errors import BadInputError
from toolchain.system import claims
from toolchain.system.text import fixed

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.camera.answering import Answered

CLIP_S = 6.0
CLIP_FPS = 15.0
SETTLED_S = 0.5
DEVICES = ("ort:cpu", "openvino:CPU", "torch:cpu")


@click.command(
    help="""Try every step once on drawn pets, offline.

This draws pictures of animals, fine-tunes the ready-made network on them, exports it, quantises it to int8,
measures both files on this machine, and runs the camera loop on a drawn clip. All results stay in a folder."""
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="A new folder. Default: edgetl-demo, edgetl-demo-2, ..."
)
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@output_options
def command(out: Path | None, seed: int, console: Console) -> int | None:
    needs("torch")
    started = time.perf_counter()
    folder = out or _free_folder()
    hold = claims.working_in(folder, "making a demo", "Wait until it has ended, or choose another --out.")
    click.get_current_context().with_resource(hold)
    if not claims.is_empty(folder):
        raise BadInputError(f"{folder} is there already and not empty", "Choose another --out.")
    console.say(f"every step once, on pictures drawn by code, into {folder}")
    from toolchain.artifact import find_artifact, read_artifact
    from toolchain.bench import report as reports
    from toolchain.bench.runner import Plan, bench
    from toolchain.cli.export import exit_code
    from toolchain.cli.finetune import rejection_line
    from toolchain.export.exporting import export
    from toolchain.export.results import QuantizationSettings as Int8
    from toolchain.runs.ready_made import ready_made_weights
    from toolchain.system.progress import EtaReporter, PlannedTask
    from toolchain.training.finetune import finetune
    from toolchain.training.settings import TrainSettings

    run_folder = folder / "run"
    # In photographs' features, as finetune plans: what comes after it.
    later = (PlannedTask("writing ONNX", 2, 400.0), PlannedTask("int8 recipes", 6, 1600.0))
    reporter = EtaReporter(console, [*later, PlannedTask("loading", 5, 300.0), PlannedTask("measuring", 20, 60.0)])

    console.say("1/5 fine-tuning on drawn pets")
    settings = TrainSettings("drawn-pets", weights=str(ready_made_weights()), epochs=2, seed=seed)
    run = finetune(settings, run_folder, command="edgetl demo", reporter=reporter, deployable=False)

    console.say("2/5 exporting, float32 and int8")
    done = export(run_folder, int8=Int8(max_drop_pp=1.0), reporter=reporter)

    console.say("3/5 measuring on this machine")
    files = [done.float_file, *dict.fromkeys(done.int8_files.values())]
    plan = Plan(tuple(read_artifact(Path(path)) for path in files), DEVICES, rounds=4, data="drawn-pets")
    report = bench(plan, reporter)
    reports.write(report, folder / "bench")

    console.say("4/5 watching a drawn clip")
    seen = _watch(find_artifact(run_folder), folder / "clip.mp4", seed)

    console.say("5/5 done")
    chosen = [attempt for attempt in done.attempts if attempt.chosen_for]
    document: dict[str, Any] = {
        "out": str(folder),
        "seconds": round(time.perf_counter() - started, 1),
        "finetune": {"kept": run.model.kept, "test_top1": run.metrics["test"].top1, "n": run.metrics["test"].n},
        "export": {
            "drop_pp": {
                hop.device: hop.drop_pp
                for attempt in chosen
                for hop in attempt.hops
                if hop.device in attempt.chosen_for
            },
            "broken": done.broken,
            "undecided": done.undecided,
            "float_mb": done.float_mb,
            "int8_mb": next((attempt.size_mb for attempt in chosen), None),
        },
        "bench": [
            {
                "precision": arm.precision,
                "device": arm.device,
                "p50_ms": arm.latency_ms.p50,
                "top1": arm.accuracy.top1 if arm.accuracy else None,
            }
            for arm in report.arms
            if arm.latency_ms and (arm.precision == "float32" or arm.artifact == done.int8_files.get(arm.device))
        ],
        "camera": seen,
    }
    table, *lines = _summary(document)
    rejected = [rejection_line(run.rejection, run.metrics["test"].n)] if run.rejection else []
    console.result(document, table, *lines[:1], *rejected, *lines[1:])
    return exit_code(done)


def _free_folder() -> Path:
    names = ("edgetl-demo" if number == 1 else f"edgetl-demo-{number}" for number in count(1))
    return claims.new_folder(Path(name) for name in names)


def _summary(document: dict[str, Any]) -> tuple[RenderableType, ...]:
    table = Table(
        Column(""),
        Column("device"),
        Column("p50 ms", right=True),
        Column("top-1", right=True),
        Column("against float"),
        title="edgetl demo",
    )
    p50 = {(row["precision"], row["device"]): row["p50_ms"] for row in document["bench"]}
    for row in document["bench"]:
        base = p50.get(("float32", row["device"]))
        faster = f"{base / row['p50_ms']:.1f} times as fast" if row["precision"] == "int8" and base else ""
        top1 = "" if row["top1"] is None else f"{row['top1']:.3f}"
        table.add(row["precision"], row["device"], f"{row['p50_ms']:.2f}", top1, faster)
    trained, exported, seen = document["finetune"], document["export"], document["camera"]
    lines = [
        f"Trained ({trained['kept']} kept): top-1 {trained['test_top1']:.3f} on {trained['n']} drawn pictures.",
        *(
            f"int8 on {device}: {fixed(drop_pp, 2)} pp of top-1 lost on validation, "
            f"{exported['int8_mb']:.1f} MB instead of {exported['float_mb']:.1f} MB."
            for device, drop_pp in exported["drop_pp"].items()
        ),
        f"Camera: {seen['frames_answered']} of {seen['frames_in']} frames answered, "
        f"p95 frame age {seen['age_ms']['p95']:.0f} ms, {seen['right']:.0%} of answers right.",
        f"All of it, in {document['seconds']:.0f} s: {document['out']}",
    ]
    if exported["broken"]:
        what = "Not decided" if set(exported["broken"]) <= set(exported["undecided"]) else "Promise broken"
        lines.insert(0, f"{what}: {'; '.join(exported['broken'].values())}")
    return table, *lines


def _watch(artifact: Path, clip: Path, seed: int) -> dict[str, Any]:
    """Draw a clip, let the camera loop watch it in real time, and say how that went."""
    from toolchain.camera.engine import Engine
    from toolchain.camera.frames import CaptureOptions
    from toolchain.camera.loop import run
    from toolchain.camera.sinks import Sink
    from toolchain.camera.sources.capture import Capture
    from toolchain.camera.sources.opening import open_source
    from toolchain.classifier import load
    from toolchain.drawn.pets import draw_clip

    class Marker(Sink):
        """Compares answers with what the clip showed, half a second after each change of animal."""

        def show(self, answered: Answered) -> None:
            start, label = [turn for turn in turns if turn[0] <= answered.frame.time_s][-1]
            if answered.frame.time_s - start >= SETTLED_S:
                right.append(answered.prediction.answer == label)

    turns = draw_clip(clip, CLIP_S, CLIP_FPS, seed)
    right: list[bool] = []
    summary = run(Engine(load(artifact)), Capture(open_source(str(clip), CaptureOptions())), [Marker()])
    return {**asdict(summary), "right": round(sum(right) / max(len(right), 1), 4)}
