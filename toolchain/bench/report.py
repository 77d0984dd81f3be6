"""What a benchmark found, in words and files: `bench.json` and `bench.md`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from toolchain.bench import layers
from toolchain.bench.candidates import candidates
from toolchain.bench.results import ArmResult, BenchReport, Change, Comparison, measured, names_of
from toolchain.evaluation.statistics import paired_ratio_ci95
from toolchain.recommended import recommend
from toolchain.runtimes.machine import Environment
from toolchain.system import files
from toolchain.system.text import fixed, harmless, harmless_markdown, percent
from toolchain.timing.protocol import at

JSON_FILE = "bench.json"
MARKDOWN_FILE = "bench.md"


def write(report: BenchReport, folder: Path) -> None:
    """Write `bench.json` and `bench.md` into `folder`."""
    files.write_json(folder / JSON_FILE, report)
    files.write_bytes(folder / MARKDOWN_FILE, to_markdown(report).encode())


COLUMNS = (
    "artifact",
    "precision",
    "device",
    "threads",
    "batch",
    "p50 ms [95 %]",
    "p90",
    "p99",
    "images/s",
    "end to end ms",
    "top-1 [95 %]",
    "agreement",
    "MB",
)


def columns(report: BenchReport) -> tuple[str, ...]:
    """COLUMNS, and first the machine where there are several."""
    return ("machine", *COLUMNS) if len(report.machines) > 1 else COLUMNS


def rows(report: BenchReport) -> list[tuple[str, ...]]:
    """The arms that are `ok`, as text under `columns`."""
    names = names_of(report.arms)
    several = len(report.machines) > 1
    return [(*((arm.on,) if several else ()), *row(arm, names[arm.artifact])) for arm in measured(report)]


def row(arm: ArmResult, name: str) -> tuple[str, ...]:
    """An arm that is `ok`, as text under COLUMNS."""
    latency, accuracy = arm.latency_ms, arm.accuracy
    assert latency is not None
    low, high = latency.p50_ci95
    top1 = agreement = "-"
    if accuracy:
        top1 = f"{accuracy.top1:.3f} [{accuracy.top1_ci95[0]:.3f}, {accuracy.top1_ci95[1]:.3f}]"
        agreement = "-" if accuracy.agreement is None else f"{accuracy.agreement:.3f}"
    return (
        name,
        arm.precision,
        arm.device,
        str(arm.threads),
        str(arm.batch),
        f"{latency.p50:.2f} [{low:.2f}, {high:.2f}]",
        f"{latency.p90:.2f}",
        _number(latency.p99, ".2f"),
        _number(arm.throughput_ips, ".0f"),
        _number(arm.end_to_end_ms, ".2f"),
        top1,
        agreement,
        f"{arm.file_mb:.2f}",
    )


def absences(report: BenchReport) -> list[str]:
    """A line for each reason that arms failed or could not be measured, failures first."""
    return _reasons(report, report.arms)


def absences_in_brief(report: BenchReport, *, devices_named: bool) -> list[str]:
    """`absences` for a terminal: why arms failed, and of what cannot be here only which.

    Why is said where nothing was measured at all, and of a device on which nothing was where `devices_named`.
    """
    if not measured(report):
        return absences(report)
    names = names_of(report.arms)
    missing: dict[str, set[str]] = {}
    for arm in report.arms:
        if arm.status == "unavailable":
            missing.setdefault(at(arm.device, arm.on), set()).add(names[arm.artifact])
    gone = [device for device, lacking in missing.items() if lacking == set(names.values())]
    elsewhere: dict[str, list[str]] = {}
    for device, lacking in missing.items():
        for name in sorted(lacking) if device not in gone else ():
            elsewhere.setdefault(name, []).append(device)
    told = [
        arm for arm in report.arms if arm.status == "failed" or (devices_named and at(arm.device, arm.on) in gone)
    ]
    places = [", ".join(gone)] if gone and not devices_named else []
    places += [f"{name} on {', '.join(devices)}" for name, devices in elsewhere.items()]
    brief = [f"Not measured: {'; '.join(places)} ({MARKDOWN_FILE} says why)."] if places else []
    return _reasons(report, told) + brief


def _reasons(report: BenchReport, arms: Sequence[ArmResult]) -> list[str]:
    names = names_of(report.arms)
    every = set(names.values())
    lines = []
    for status in ("failed", "unavailable"):
        groups: dict[str, dict[str, set[str]]] = {}
        for arm in arms:
            if arm.status == status:
                place = at(arm.device, arm.on)
                groups.setdefault(arm.reason, {}).setdefault(place, set()).add(names[arm.artifact])
        for reason, devices in groups.items():
            missing = set().union(*devices.values())
            whose = "" if missing == every else f" ({', '.join(sorted(missing))})"
            lines.append(f"{status}: {', '.join(devices)}{whose}: {reason}")
    return lines


def conclusions(report: BenchReport) -> list[str]:
    """Which arm is the fastest, what int8 gained against float, and what to run on each device; of each machine."""
    names = names_of(report.arms)
    lines = []
    for machine in report.environments:
        prefix = f"{machine}: " if report.machines else ""
        arms = [arm for arm in measured(report) if arm.on == machine]
        lines += [prefix + line for line in _conclusions(report, machine, arms, names)]
    return lines


def _conclusions(report: BenchReport, machine: str, arms: Sequence[ArmResult], names: dict[str, str]) -> list[str]:
    if not arms:
        return ["No arm could be measured."]
    per_image = {id(arm): arm.latency_ms.p50 / arm.batch for arm in arms if arm.latency_ms}
    ranked = sorted(arms, key=lambda arm: per_image[id(arm)])
    best = ranked[0]
    assert best.latency_ms is not None
    unit = "" if best.batch == 1 else f" for {best.batch} images"
    sentence = f"Fastest: {names[best.artifact]} on {best.device}, {best.latency_ms.p50:.2f} ms{unit}"
    rivals = [f"{names[arm.artifact]} on {arm.device}" for arm in ranked[1:] if not _told_apart(arm, best)]
    lines = [sentence + (f"; not told apart from {', '.join(rivals)}." if rivals else ".")]
    pairs = [(arm, base) for arm in arms for base in arms if _is_pair(arm, base)]
    files = Counter((arm.device, arm.threads, arm.batch) for arm, _ in pairs)
    ways = {(arm.threads, arm.batch) for arm, _ in pairs}
    gains = [
        _gain(
            arm,
            base,
            names[arm.artifact] if files[arm.device, arm.threads, arm.batch] > 1 else "",
            f" (threads {arm.threads}, batch {arm.batch})" if len(ways) > 1 else "",
        )
        for arm, base in pairs
    ]
    if gains:
        lines.append(f"int8 against float: {'; '.join(gains)}.")
    for folder in dict.fromkeys(Path(arm.artifact).parent for arm in arms if not report.noisy):
        lines += [one.sentence() for one in recommend(candidates(report, folder, machine))]
    return lines


CHANGE_COLUMNS = (
    "artifact",
    "device",
    "threads",
    "batch",
    "p50 ms before",
    "now",
    "change [95 %]",
    "top-1",
    "verdict",
)


def change_row(change: Change) -> tuple[str, ...]:
    """A comparison of one arm, as text under CHANGE_COLUMNS."""
    verdicts = {
        "same": "within the tolerance",
        "uncertain": "perhaps changed: measure longer (--budget)",
        "slower": "slower",
        "faster": "faster",
        "undecided": "undecided (noisy)",
    }
    top1 = "-" if change.drop_pp is None else f"{fixed(-change.drop_pp, 2, plus=True)} pp"
    ratio, low, high = (percent(value - 1, 1, plus=True) for value in (change.ratio, *change.ratio_ci95))
    return (
        change.artifact + (f" (was {change.old_artifact})" if change.old_artifact else ""),
        at(change.device, change.on),
        str(change.threads),
        str(change.batch),
        f"{change.old_p50_ms:.2f}",
        f"{change.new_p50_ms:.2f}",
        f"{ratio} [{low}, {high}]",
        top1,
        verdicts[change.latency] + (", less accurate" if change.accuracy_lost else ""),
    )


def verdict(comparison: Comparison) -> list[str]:
    """What a comparison came to, in sentences."""
    with_answers = any(one.drop_pp is not None for one in comparison.changes)
    limits = f"{comparison.tolerance_percent:g} % of latency"
    limits += f", {comparison.tolerance_pp:g} pp of top-1" if with_answers else ""
    undecided = []
    if comparison.noisy:
        who = " and ".join(comparison.noisy)
        undecided = [
            f"Undecided (noisy): the machine was not at rest in {who}, so latencies are not judged. "
            "Measure again on a quiet machine."
        ]
    if comparison.regressions:
        return [f"Worse than {comparison.old}: {line}" for line in comparison.regressions] + undecided
    if undecided:
        return undecided
    said = [f"Nothing is worse than in {comparison.old} beyond the tolerance ({limits})."]
    bounds = [one.drop_pp_ci95[1] for one in comparison.changes if one.drop_pp_ci95 and not one.same_file]
    if not with_answers:
        said.append("Top-1 was not compared: no photographs, or not the same ones in the same order.")
    most = max(bounds, default=0.0)
    if most > comparison.tolerance_pp:
        said.append(f"But these photographs are too few to rule out a loss of {most:.1f} pp of top-1 (95 %).")
    return said


def to_markdown(report: BenchReport) -> str:
    """The report as a page of Markdown."""
    lines = ["# Benchmark", ""]
    lines += [f"- {harmless_markdown(sentence)}" for sentence in conclusions(report)]
    if report.noisy:
        lines.append("- **Noisy**: the machine was not at rest; the remarks say why.")
    head = columns(report)
    lines += ["", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [_table_row(one) for one in rows(report)]
    lines += ["", *(f"- {harmless_markdown(line)}" for line in (*absences(report), *report.remarks)), ""]
    if report.comparison:
        lines += [f"- {harmless_markdown(sentence)}" for sentence in verdict(report.comparison)]
        lines += ["", f"| {' | '.join(CHANGE_COLUMNS)} |", f"|{'---|' * len(CHANGE_COLUMNS)}"]
        lines += [_table_row(change_row(change)) for change in report.comparison.changes]
        lines.append("")
    for found in report.layers:
        head = layers.columns(found)
        said = [f"- {harmless_markdown(line)}" for line in layers.sentences(found)]
        lines += ["", f"## {harmless_markdown(layers.title(found))}", "", *said, ""]
        lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        lines += [_table_row(layers.row(one)) for one in found.rows]
        lines.append("")
    if report.not_compared:
        lines += [f"- **Not compared**: {harmless_markdown(report.not_compared)}", ""]
    if report.data:
        data = report.data
        used = f"{data.n} photographs of {data.name}, split {data.split} ({data.split_sha256[:16]})"
        lines.append(f"Accuracy: {harmless_markdown(used)}, {data.skipped} skipped.")
    if report.command:
        command = " ".join(harmless(report.command).split()).replace("`", "'")
        lines.append(f"Measured by: `{command}`")
    for name, machine in report.environments.items():
        lines += map(harmless_markdown, _machine_lines(name if report.machines else "", machine))
    lines += [
        "",
        "Latency is that of single inferences in milliseconds; with 95 % the interval holds the median of "
        "another run, by Student's t of the medians of processes (with --rounds 1 or 2 there is one process, and "
        "it is that of this one alone); p99 needs 299 samples; images/s is that of the best of several batches "
        "and numbers of requests at once (bench.json has its interval); end to end goes from the bytes of an "
        "encoded photograph to a named answer (median); MB are 10^6 bytes.",
        "",
    ]
    return "\n".join(lines)


def _machine_lines(name: str, machine: Environment) -> list[str]:
    versions = ", ".join(f"{package} {version}" for package, version in machine.versions.items())
    where = f"{name}, " if name else ""
    return [
        f"Machine: {where}{machine.cpu}, {machine.cores} cores, {machine.threads} threads, "
        f"{machine.memory_mb / 1000:.1f} GB, {', '.join(machine.flags) or 'flags unknown'}, "
        f"governor {machine.governor or 'unknown'}{_quota(machine)}; "
        f"{machine.load_before.busy:.0%} busy before the run.",
        f"Versions: {versions}; {machine.os}.",
    ]


def _quota(machine: Environment) -> str:
    return "" if machine.quota_cores is None else f", a CPU quota of {machine.quota_cores:g} cores"


def _is_pair(arm: ArmResult, base: ArmResult) -> bool:
    same_place = (arm.device, arm.threads, arm.batch) == (base.device, base.threads, base.batch)
    same_run = Path(arm.artifact).parent == Path(base.artifact).parent
    same_format = Path(arm.artifact).suffix == Path(base.artifact).suffix
    return same_place and same_run and same_format and (arm.precision, base.precision) == ("int8", "float32")


def _gain(arm: ArmResult, base: ArmResult, file: str, way: str) -> str:
    """How many times as fast `arm` is. `file` and `way` are named where there are several of them."""
    assert arm.latency_ms is not None
    assert base.latency_ms is not None
    ratio = base.latency_ms.p50 / arm.latency_ms.p50
    text = f"{file} {ratio:.2f} times as fast on {arm.device}{way}".lstrip()
    return text if _told_apart(base, arm) or _told_apart(arm, base) else f"{text} (within the intervals)"


def _told_apart(slow: ArmResult, fast: ArmResult) -> bool:
    """Whether `slow` surely takes longer for an image than `fast`, which took its turns beside it."""
    assert slow.latency_ms is not None
    assert fast.latency_ms is not None
    interval = paired_ratio_ci95(slow.process_p50_ms, fast.process_p50_ms)
    if interval is not None:
        return interval[0] * fast.batch / slow.batch > 1
    return slow.latency_ms.p50_ci95[0] / slow.batch > fast.latency_ms.p50_ci95[1] / fast.batch


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(harmless_markdown, cells))} |"
