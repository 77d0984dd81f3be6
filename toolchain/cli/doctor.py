"""`edgetl doctor`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli.console import Console, output_options
from toolchain.cli.tables import Column, Table, facts, strong
from toolchain.errors import BadInputError, ExitCode
from toolchain.plugins import OWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from toolchain.doctor import Missing
    from toolchain.doctor.report import DoctorReport
    from toolchain.runtimes.machine import Environment

VERDICTS = {
    True: "This machine runs edgetl.",
    False: "Something necessary is missing; see above.",
}


@click.command(
    help="""Show what this machine can run, and what is missing.

With RUN_DIR, a run folder: also which of its files to use on each device, and in which way, as export or bench
measured it.

Exits with 3 when something is missing that every command needs. Nothing is sent anywhere."""
)
@click.argument("run_dir", required=False, type=click.Path(path_type=Path))
@click.option("--probe-cameras", is_flag=True, help="Where the system lists no cameras: try to open 0, 1 and 2.")
@output_options
def command(run_dir: Path | None, probe_cameras: bool, console: Console) -> int:
    from toolchain.doctor import Missing, missing_packages

    if run_dir is not None and not run_dir.is_dir():
        raise BadInputError(f"{run_dir} is not a folder", "Name a run folder, or nothing.")
    missing = missing_packages()
    if not missing:
        try:
            from toolchain.doctor.report import check_up
        except ImportError as error:  # it is installed but does not start: a system library is missing
            from toolchain.doctor.opencv import is_of_opencv, will_not_load

            reinstall = (str(error), "pip install --force-reinstall edgetl")
            missing = [Missing(*(will_not_load(error) if is_of_opencv(error) else reinstall), necessary=True)]
    if missing:
        console.result({"works": False, "missing": missing}, *_gap_lines(missing), strong(VERDICTS[False]))
        return ExitCode.MISSING
    findings = check_up(console, probe_cameras, run_dir)
    console.result(findings, *_tables(findings), *_recommended(findings, run_dir))
    return ExitCode.DONE if findings.works else ExitCode.MISSING


def _tables(findings: DoctorReport) -> tuple[RenderableType, ...]:
    devices = Table(Column("device"), Column("here"), Column("", folds=True))
    for device in findings.devices:
        hint = f" ({device.install})" if device.install else ""
        devices.add(device.name, "yes" if device.available else "no", device.reason + hint)
    verdict = strong(VERDICTS[findings.works])
    return facts(_facts(findings)), "", devices, "", *_gap_lines(findings.missing), verdict


def _gap_lines(missing: Sequence[Missing]) -> list[str]:
    return [f"{'missing' if gap.necessary else 'not here'}: {gap.what}. {gap.fix}" for gap in missing]


def _recommended(findings: DoctorReport, run_dir: Path | None) -> list[str]:
    """What to use of a run on each device, where one was named."""
    if run_dir is None:
        return []
    cautions = list(findings.run_cautions)
    found, measure = findings.recommended, f"edgetl bench {shlex.quote(str(run_dir))}"
    if found is None:
        return [*cautions, f"{run_dir}: nothing is recommended yet. Measure it: {measure}"]
    if not findings.recommended_here:
        was = f"what is recommended was measured {findings.recommended_elsewhere}. Measure it here: {measure}"
        return [*cautions, f"{run_dir}: {was}"]
    told = [one.sentence() for one in found.devices if one.file not in findings.recommended_changed]
    gone = [
        f"{run_dir}: {file} was recommended, and has changed since or is gone. Measure again: {measure}"
        for file in findings.recommended_changed
    ]
    return [*cautions, *told, *gone]


def _quota(machine: Environment) -> str:
    if machine.quota_cores is None:
        return "none: all of them may be used all the time"
    threads = f"{machine.threads} thread{'s' if machine.threads > 1 else ''}"
    return f"{machine.quota_cores:g} cores, a limit of the container: edgetl computes with {threads}"


def _sharing(threads: int) -> str:
    if threads == 1:
        return "one core: several workers take turns"
    return f"up to {threads} workers of one thread each (--threads 1), or one that answers soonest with {threads}"


def _facts(findings: DoctorReport) -> list[tuple[str, str]]:
    machine, guess = findings.environment, findings.fastest
    fastest = f"{guess.precision} on {guess.device}"
    load = machine.load_before
    memory = f"{machine.memory_mb / 1000:.1f} GB memory"
    rows = [
        ("processor", f"{machine.cpu}: {machine.cores} cores, {machine.threads} threads, {memory}"),
        ("quota", _quota(machine)),
        ("flags", ", ".join(machine.flags) or "none known"),
        ("int8", findings.int8),
        ("fastest", f"{fastest}, to judge by the machine: {guess.why}; `edgetl bench` measures it"),
        ("sharing", _sharing(machine.threads)),
        ("load", f"{load.busy:.0%} busy, governor {machine.governor or 'unknown'}"),
        ("system", machine.os),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
    ]
    pairing = findings.torch_pairing
    reason = f" ({pairing.reason})" if pairing.reason else ""
    rows.append(("torch", f"torchvision with torch: {pairing.status}{reason}"))
    cameras = [f"{camera.source}: {camera.frame if camera.works else camera.reason}" for camera in findings.cameras]
    rows.append(("cameras", "; ".join(cameras) or "none listed (--probe-cameras tries 0 to 2)"))
    rows.append(("data", f"under {findings.data_root} (EDGETL_DATA), {findings.disk_free_mb / 1000:.1f} GB free"))
    rows += [("", f"{data.name}: {data.path or f'not here ({data.fix})'}") for data in findings.data_sets]
    rows.append(("OpenCV", findings.opencv.said))
    cache = findings.cache
    share = f"{cache.size_mb:,.0f} MB of at most {cache.limit_mb:,.0f} MB"
    rows.append(
        ("cache", f"{cache.photographs} decoded photographs, {share}, in {cache.path} (edgetl data cache --clear)")
    )
    rows.append(("pages", findings.pages))
    rows.append(("model", f"ready-made: {findings.ready_made or 'not here'}"))
    if findings.ready_made_caution:
        rows.append(("", findings.ready_made_caution))
    working = [plugin for plugin in findings.plugins if not plugin.problem]
    for kind in dict.fromkeys(plugin.kind for plugin in working):
        own = [plugin.name for plugin in working if plugin.kind == kind and plugin.package == OWN]
        others = [f"{one.name} ({one.package})" for one in working if one.kind == kind and one.package != OWN]
        rows.append((kind, ", ".join(own + others)))
    return rows
