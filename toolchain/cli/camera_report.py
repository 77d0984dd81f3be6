"""How a run of the camera ended, told to people or as JSON, and the exit code for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.cli.console import Console
from toolchain.errors import ExitCode
from toolchain.system import files

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.camera.answering import Percentiles
    from toolchain.camera.session import CameraReport
    from toolchain.camera.sinks.lines import Output

SUMMARY_LIMIT_S = 3.0
"""How long the summary waits for its reader."""


def conclude(report: CameraReport, console: Console, output: Output, *, record: Path | None, shares: bool) -> int:
    """Print the summary of `report`, and return the exit code. With `shares`, of what the age is made up."""
    import msgspec

    from toolchain.camera.sinks import AnswerLostError

    summary = report.summary
    if summary.lost:
        console.warn(f"{summary.source} was lost. {report.remedy}")
    if record and not report.recorded and not any(what.startswith(f"{record}: ") for what in report.unwritten):
        console.warn(f"{record} was not written: there was nothing to record")
    for what in report.unwritten:
        console.warn(f"not written to its end: {what}")
    if console.json:
        document = msgspec.to_builtins(summary) | {"artifact": str(report.artifact)}
        if record:
            document["recorded"] = str(report.recorded) if report.recorded else None
        if report.unwritten:
            document["unwritten"] = list(report.unwritten)
        document["lines_unwritten"] = report.lines_unwritten
        try:
            output.write(files.to_json({"summary": document}, indent=0).decode().strip(), SUMMARY_LIMIT_S)
        except AnswerLostError as error:
            console.warn(f"the summary was not written: {error}")
            return ExitCode.PROMISE_BROKEN
    else:
        console.result(None, *_summary_lines(report, shares))
    if summary.ended == "interrupted":
        return ExitCode.INTERRUPTED
    if report.unwritten:
        return ExitCode.PROMISE_BROKEN
    return ExitCode.MISSING if summary.lost and summary.ended not in {"quit", "terminated"} else ExitCode.DONE


def _summary_lines(report: CameraReport, shares: bool) -> list[RenderableType]:
    summary, latency = report.summary, report.latency
    age, infer = summary.age_ms, summary.infer_ms
    rarely = "" if age.p99 is None else f", p99 {_ms(age.p99)}"
    lines = [
        f"{summary.source} on {summary.device}: {summary.frames_answered} of {summary.frames_in} frames answered "
        f"in {summary.seconds:.1f} s, {summary.fps:.1f} per second",
        f"frame age p50 {_ms(age.p50)}, p95 {_ms(age.p95)}{rarely}; "
        f"inference p50 {_ms(infer.p50)}, p95 {_ms(infer.p95)}",
    ]
    if shares and latency is None:
        parts = {"waiting": summary.wait_ms, "resizing": summary.resize_ms, "inference": infer}
        lines.append("of the age (p50, p95): " + _parts(parts))
    if latency is not None:
        total = latency.total
        lines.append(f"glass to glass p50 {_ms(total.p50)}, p95 {_ms(total.p95)}, from {latency.frames} markers")
        parts = {"screen and capture": latency.capture, "waiting": latency.wait, "resizing": latency.resize}
        lines.append("of it (p50, p95): " + _parts(parts | {"inference": latency.infer, "drawing": latency.draw}))
    if summary.reconnects:
        lines.append(f"lost and opened again: {summary.reconnects} x")
    lines += [f"device: {failure}" for failure in summary.failures]
    if report.recorded:
        lines.append(f"recorded: {report.recorded}")
    return [*lines, *report.notes]


def _parts(parts: Mapping[str, Percentiles]) -> str:
    return ", ".join(f"{name} {_ms(one.p50)}, {_ms(one.p95)}" for name, one in parts.items())


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
