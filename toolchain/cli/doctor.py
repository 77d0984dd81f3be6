"""`edgetl doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from toolchain.cli.console import Console, output_options
from toolchain.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolchain.bench.checkup import Findings
    from toolchain.bench.machine import Environment
    from toolchain.bench.packages import Missing

VERDICTS = {
    True: "[bold]This machine runs edgetl.[/bold]",
    False: "[bold]Something necessary is missing; see above.[/bold]",
}


@click.command(
    help="""Show what this machine can run, and what is missing.

Exits with 3 when something is missing that every command needs. Nothing is sent anywhere."""
)
@click.option("--probe-cameras", is_flag=True, help="Where the system lists no cameras: try to open 0, 1 and 2.")
@output_options
def command(probe_cameras: bool, console: Console) -> int:
    from toolchain.bench.packages import Missing, missing_packages

    missing = missing_packages()
    if not missing:
        try:
            from toolchain.bench.checkup import check_up
        except ImportError as error:  # installed, and yet it does not start: a system library is missing
            missing = [Missing(str(error), "pip install --force-reinstall edgetl", necessary=True)]
    if missing:
        console.result({"works": False, "missing": missing}, *_gap_lines(missing), VERDICTS[False])
        return ExitCode.MISSING
    findings = check_up(console, probe_cameras)
    console.result(findings, *_tables(findings))
    return ExitCode.DONE if findings.works else ExitCode.MISSING


def _tables(findings: Findings) -> tuple[Table | str, ...]:
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(findings):
        facts.add_row(name, escape(value))
    devices = Table("device", "", "", box=None, pad_edge=False, header_style="bold")
    for device in findings.devices:
        hint = f" ({device.install})" if device.install else ""
        devices.add_row(device.name, "yes" if device.available else "no", escape(device.reason + hint))
    return facts, "", devices, "", *_gap_lines(findings.missing), VERDICTS[findings.works]


def _gap_lines(missing: Sequence[Missing]) -> list[str]:
    return [escape(f"{'missing' if gap.necessary else 'not here'}: {gap.what}. {gap.fix}") for gap in missing]


def _outlook(findings: Findings) -> str:
    guess = findings.fastest
    return f"{guess.precision} on {guess.device}, to judge by the machine: {guess.why}; `edgetl bench` measures it"


def _quota(machine: Environment) -> str:
    if machine.quota_cores is None:
        return "none: all of them may be used all the time"
    threads = f"{machine.threads} thread{'s' if machine.threads > 1 else ''}"
    return f"{machine.quota_cores:g} cores, a limit of the container: edgetl computes with {threads}"


def _sharing(threads: int) -> str:
    if threads == 1:
        return "one core: several workers take turns"
    return f"up to {threads} workers of one thread each (--threads 1), or one that answers soonest with {threads}"


def _facts(findings: Findings) -> list[tuple[str, str]]:
    machine = findings.environment
    load = machine.load_before
    memory = f"{machine.memory_mb / 1000:.1f} GB memory"
    facts = [
        ("processor", f"{machine.cpu}: {machine.cores} cores, {machine.threads} threads, {memory}"),
        ("quota", _quota(machine)),
        ("flags", ", ".join(machine.flags) or "none known"),
        ("int8", findings.int8),
        ("fastest", _outlook(findings)),
        ("sharing", _sharing(machine.threads)),
        ("load", f"{load.busy:.0%} busy, governor {machine.governor or 'unknown'}"),
        ("system", machine.os),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
    ]
    pairing = findings.torch_pairing
    reason = f" ({pairing.reason})" if pairing.reason else ""
    facts.append(("torch", f"torchvision with torch: {pairing.status}{reason}"))
    cameras = [f"{camera.source}: {camera.frame if camera.works else camera.reason}" for camera in findings.cameras]
    facts.append(("cameras", "; ".join(cameras) or "none listed (--probe-cameras tries 0 to 2)"))
    facts.append(("data", f"under {findings.data_root} (EDGETL_DATA), {findings.disk_free_mb / 1000:.1f} GB free"))
    facts += [("", f"{data.name}: {data.path or f'not here ({data.fix})'}") for data in findings.data_sets]
    facts.append(("model", f"ready-made: {findings.ready_made or 'not here'}"))
    return facts
