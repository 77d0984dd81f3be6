"""A benchmark from its plan to its files: the folder it goes into, what it is compared with, and its exit code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from toolchain import recommended
from toolchain.artifact import Artifact, find_artifacts, read_artifact
from toolchain.bench import report as reports
from toolchain.bench.candidates import candidates
from toolchain.bench.compare import (
    Foreseen,
    Tolerance,
    aligned,
    compare,
    read_report,
    refuse_early,
    version_changes,
)
from toolchain.bench.results import BenchReport
from toolchain.bench.runner import Plan, bench
from toolchain.errors import ArtifactError, BadInputError, ExitCode
from toolchain.runs import RUN_FILE
from toolchain.system import claims
from toolchain.system.installation import install
from toolchain.system.progress import Reporter
from toolchain.timing.protocol import LOCAL

STEM = "bench"


@dataclass(frozen=True)
class Baseline:
    """An older benchmark to compare with: its `report` was read from `path`. `force`: compare unlike runs too."""

    path: Path
    report: BenchReport
    tolerance: Tolerance
    force: bool


def read_artifacts(files: Sequence[Path]) -> tuple[Artifact, ...]:
    """Model files, each once. Raises ArtifactError."""
    return tuple(read_artifact(path) for path in dict.fromkeys(files))


def measure(plan: Plan, baseline: Baseline | None, reporter: Reporter) -> BenchReport:
    """Measure `plan` and compare it with `baseline`.

    Raises BadInputError before the minute of measuring where it can be known that the two cannot be compared.
    """

    def before(coming: Foreseen) -> None:
        if baseline is not None:
            refuse_early(baseline.report, str(baseline.path), coming, force=baseline.force)

    report = bench(plan, reporter, before=before)
    _keep_recommendation(report, plan, reporter)
    return report if baseline is None else compared(report, baseline, reporter)


def _keep_recommendation(report: BenchReport, plan: Plan, reporter: Reporter) -> None:
    """Write what is recommended into run folders, where all their files were measured on all devices, in peace.

    And on as many threads as there are cores: `predict` and `camera` use them.
    """
    if not plan.distinct or report.noisy:
        return
    paths = [artifact.path for artifact in plan.artifacts]
    for folder in dict.fromkeys(map(home_of, paths)):
        if not (folder / RUN_FILE).is_file() or not _are_all_of(folder, paths):
            continue
        names = [replace(one, file=Path(one.file).name) for one in candidates(report, folder)]
        found = recommended.record("edgetl bench", names)
        if found is not None and recommended.holds_here(found):
            with suppress(OSError):  # somebody else's folder
                recommended.write(folder, found)
                reporter.say(f"{folder / recommended.FILE}: what predict and camera use where no --device is named")


def _are_all_of(folder: Path, paths: Sequence[Path]) -> bool:
    """Whether no file of a run is missing in `paths`; of one without its own files, nobody knows."""
    try:
        return set(find_artifacts(folder)) <= set(paths)
    except ArtifactError:
        return False


def recompare(path: Path, baseline: Baseline, reporter: Reporter) -> BenchReport:
    """Compare the benchmark in `path` with `baseline`; nothing is measured."""
    return compared(read_report(path), baseline, reporter)


def compared(report: BenchReport, baseline: Baseline, reporter: Reporter) -> BenchReport:
    """`report` with its comparison, or with why there is none: what was measured is not lost."""
    before = aligned(baseline.report, report.environments).environments
    for name, environment in report.environments.items():
        if name in before and (changed := version_changes(before[name], environment)):
            where = "" if name == LOCAL else f"on {name}, "
            reporter.say(f"{where}other versions than before: {', '.join(changed)}")
    try:
        found = compare(baseline.report, report, str(baseline.path), baseline.tolerance, force=baseline.force)
    except BadInputError as error:
        return replace(report, comparison=None, not_compared=error.message)
    return replace(report, comparison=found, not_compared="")


def write(report: BenchReport, folder: Path, reporter: Reporter) -> list[Path]:
    """Write the report's files into `folder`; return their paths. Without Jinja and Matplotlib there is no page."""
    reports.write(report, folder)
    names = [reports.JSON_FILE, reports.MARKDOWN_FILE]
    try:
        from toolchain.bench import page

        names.append(page.write(report, folder).name)
    except ModuleNotFoundError as error:
        reporter.say(f"no bench.html: {error.name} is not installed ({install('report')})")
    return [folder / name for name in names]


def exit_code_of(report: BenchReport) -> ExitCode:
    """What a benchmark came to (docs/reference/exit-codes.md)."""
    statuses = {arm.status for arm in report.arms}
    if report.not_compared:
        return ExitCode.BAD_INPUT
    if report.comparison is not None and report.comparison.regressions:
        return ExitCode.PROMISE_BROKEN
    if report.comparison is not None and report.comparison.noisy:
        return ExitCode.UNDECIDED
    if "ok" in statuses:
        return ExitCode.DONE
    return ExitCode.BAD_INPUT if "failed" in statuses else ExitCode.MISSING


def home_of(artifact: Path) -> Path:
    """The folder that a benchmark of `artifact` belongs into: that of its run, or else the current one."""
    folder = artifact if artifact.is_dir() else artifact.parent
    # Not any folder that holds a model: it may be an installed package or a repository.
    return folder if (folder / RUN_FILE).is_file() else Path()


@contextmanager
def claimed(out: Path | None, artifact: Path) -> Iterator[Path | None]:
    """Yield a folder to write into: `out`, or the first free `bench-<n>` of `home_of(artifact)`, else of the
    current folder; None where neither can be written to.

    A folder is claimed by making it, so two benchmarks that start at once never share one. It is removed again
    when nothing was written into it. Raises BadInputError where `out` cannot be a folder.
    """
    if out is not None:
        if out.exists() and not out.is_dir():
            raise BadInputError(f"{out} is not a folder", "Name a folder with --out.")
        # Before measuring, so that a folder that cannot be used is reported at once; and nobody else writes there.
        with claims.working_in(out, "measuring", "Wait until it has ended, or choose another --out."):
            yield out
        return
    folder = _claim(dict.fromkeys((home_of(artifact), Path())))
    try:
        yield folder
    finally:
        if folder is not None:
            with suppress(OSError):
                folder.rmdir()


def _claim(homes: dict[Path, None]) -> Path | None:
    for home in homes:
        number = 1
        while True:
            folder = home / f"{STEM}-{number}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1
            except OSError:  # read-only, or somebody else's
                break
    return None
