"""`bench.html`: a benchmark on one page that needs nothing else. Its libraries are those of the extra `report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from toolchain._version import __version__
from toolchain.bench import layers
from toolchain.bench import report as reports
from toolchain.bench.plots import PlotPoint, distributions, layer_bars, pareto
from toolchain.bench.results import ArmResult, BenchReport, LayersOf, MeasuredMachine, measured, names_of
from toolchain.pages import write_page
from toolchain.system.text import fixed

PAGE_FILE = "bench.html"


def write(report: BenchReport, folder: Path) -> Path:
    """Write `bench.html` into `folder`; return its path."""
    path = folder / PAGE_FILE
    filters = {"ms": _milliseconds, "percent": _percent, "rounded": _rounded}
    write_page(path, Path(__file__).with_name("bench.html.jinja"), _content(report), filters)
    return path


def _content(report: BenchReport) -> dict[str, Any]:
    arms = measured(report)
    names = arm_names(arms)
    points = [_point(number, arm, name) for number, (arm, name) in enumerate(zip(arms, names, strict=True), 1)]
    both = list(zip(points, arms, strict=True))
    return {
        "report": report,
        "version": __version__,
        "conclusions": reports.conclusions(report),
        "arms": both,
        # Arms of different machines stand side by side, and none of them beats another's.
        "plots": [
            _plots(machine if len(report.machines) > 1 else "", [point for point, arm in both if arm.on == machine])
            for machine in report.environments
        ],
        "machines": report.machines or (MeasuredMachine("", report.environment, report.during),),
        "absences": reports.absences(report),
        "verdict": reports.verdict(report.comparison) if report.comparison else [],
        "changes": [reports.change_row(one) for one in report.comparison.changes] if report.comparison else [],
        "change_columns": reports.CHANGE_COLUMNS,
        "text_columns": {"artifact", "device", "verdict"} | layers.WORDS,
        "layers": [_layers(number, found) for number, found in enumerate(report.layers)],
        "hashes": {arm.artifact: arm.sha256 for arm in report.arms},
    }


def _layers(number: int, found: LayersOf) -> dict[str, Any]:
    return {
        "title": layers.title(found),
        "sentences": layers.sentences(found),
        "columns": layers.columns(found),
        "rows": [(layers.row(one), one.slower) for one in found.rows],
        "bars": Markup(layer_bars(found.rows, f"layers-{number}", layers.title(found))),
        "several": len(found.artifacts) > 1,
    }


def _plots(machine: str, points: Sequence[PlotPoint]) -> dict[str, Any]:
    judged = [point for point in points if point.top1 is not None]
    return {
        "machine": machine,
        "pareto": Markup(pareto(judged)) if judged else None,
        "distributions": Markup(distributions(points)) if any(point.quantiles_ms for point in points) else None,
    }


def arm_names(arms: Sequence[ArmResult]) -> list[str]:
    """The shortest names that tell arms apart: file and device, and what else differs."""
    files = names_of(arms)
    many_threads = len({arm.threads for arm in arms}) > 1
    many_batches = len({arm.batch for arm in arms}) > 1
    many_machines = len({arm.on for arm in arms}) > 1
    return [
        f"{files[arm.artifact]} · {arm.device}"
        + (f" · {arm.threads} threads" if many_threads else "")
        + (f" · batch {arm.batch}" if many_batches else "")
        + (f" · {arm.on}" if many_machines else "")
        for arm in arms
    ]


def _point(number: int, arm: ArmResult, name: str) -> PlotPoint:
    assert arm.latency_ms is not None
    low, high = arm.latency_ms.p50_ci95
    return PlotPoint(
        number=number,
        name=name,
        is_float=arm.precision == "float32",
        ms=arm.latency_ms.p50 / arm.batch,
        ms_ci95=(low / arm.batch, high / arm.batch),
        quantiles_ms=arm.quantiles_ms,
        top1=arm.accuracy.top1 if arm.accuracy else None,
        top1_ci95=arm.accuracy.top1_ci95 if arm.accuracy else (0.0, 0.0),
    )


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{fixed(100 * value, 1)}\u00a0%"


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
