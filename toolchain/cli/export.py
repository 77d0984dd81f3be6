"""`edgetl export`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli.console import Console, output_options
from toolchain.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.export.exporting import Exported


@click.command(
    help="""Write a run as one ONNX file, and quantise it.

RUN_DIR is what `edgetl finetune` wrote. The file holds weights, class names and preprocessing; what was measured
goes in too."""
)
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--int8", is_flag=True, help="Write model.int8.onnx too; exit 1 if it loses more than --max-drop.")
@click.option(
    "--max-drop",
    "max_drop_pp",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    metavar="PP",
    help="Percentage points of validation top-1 that int8 (and --int8-weights) may lose.",
)
@click.option(
    "--target",
    default="any",
    show_default=True,
    metavar="DEVICE",
    help="Where int8 must keep its promise: a device, or any (ort:cpu and openvino:CPU).",
)
@click.option("--fp16", is_flag=True, help="Write model.fp16.onnx too: half the size, for GPUs and NPUs.")
@click.option(
    "--int8-weights", is_flag=True, help="Write model.w8.onnx too: a quarter of the size, computed in float32."
)
@click.option("--openvino", is_flag=True, help="Write OpenVINO's model.xml and model.bin beside each ONNX file.")
@click.option("--out", type=click.Path(path_type=Path), help="The float file. Default: RUN_DIR/model.onnx.")
@output_options
def command(
    run_dir: Path,
    int8: bool,
    max_drop_pp: float,
    target: str,
    fp16: bool,
    int8_weights: bool,
    openvino: bool,
    out: Path | None,
    console: Console,
) -> int | None:
    from toolchain.export.exporting import export
    from toolchain.export.further import Further

    further = Further(openvino, fp16, int8_weights)
    done = export(
        run_dir, int8=int8, max_drop_pp=max_drop_pp, target=target, out=out, further=further, reporter=console
    )
    console.result(done, *_summary(done))
    broken = [one.broken for one in done.further if one.broken]
    for sentence in broken:
        console.warn(sentence)
    if done.broken:
        console.warn(f"{done.broken}; the file is left as {done.int8_file}")
        return ExitCode.PROMISE_BROKEN
    return ExitCode.PROMISE_BROKEN if broken else None


def _summary(done: Exported) -> tuple[RenderableType, ...]:
    from rich.table import Table

    table = Table(
        "file", "device", "top-1", "per-class top-1", "agreement", "drop (95 % at most)", "logits differ by",
        title=f"On {done.n} validation photographs",
    )  # fmt: skip
    rows = [(Path(done.float_file).name, hop) for hop in done.float_hops]
    for attempt in done.attempts:
        name = Path(done.int8_file or "").name if attempt.chosen else "tried"
        label = f"{name}: {attempt.label}"
        rows += [(label, hop) for hop in attempt.hops]
    rows += [(Path(one.file).name, hop) for one in done.further for hop in one.hops]
    for label, hop in rows:
        accuracy = hop.accuracy
        drop = "" if hop.drop_pp is None else f"{hop.drop_pp:.2f} pp ({hop.drop_upper_pp:.2f})"
        table.add_row(
            label,
            hop.device,
            f"{accuracy.top1:.3f}",
            f"{accuracy.per_class_top1:.3f}",
            f"{accuracy.agreement:.3f}",
            drop,
            f"{hop.relative_difference:.1e}",
        )
    lines = [f"{done.float_file}: {done.float_mb:.2f} MB"]
    chosen = next((attempt for attempt in done.attempts if attempt.chosen), None)
    if chosen:
        lines.append(f"{done.int8_file}: {chosen.size_mb:.2f} MB, {chosen.size_mb / done.float_mb:.2f} of float")
    for one in done.further:
        size = f"{one.size_mb:.2f} MB, {one.size_mb / done.float_mb:.2f} of float"
        lines.append(f"{one.file}: {'not written' if one.broken else size}")
    if not done.broken:
        lines.append(f"Next: edgetl bench {shlex.quote(done.run)}")
    return table, *lines
