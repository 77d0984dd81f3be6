"""A new benchmark beside an old one: whether the two may be compared, which arm is which, and what changed.

Files may have been renamed since, and their content may have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from toolchain.bench.inputs import Chosen
from toolchain.bench.report import JSON_FILE
from toolchain.bench.results import (
    QUANTILES,
    ArmResult,
    BenchReport,
    Change,
    Comparison,
    Data,
    MeasuredMachine,
    Verdict,
    names_of,
)
from toolchain.errors import BadInputError
from toolchain.evaluation.statistics import paired_drop_ci95, ratio_ci95
from toolchain.runtimes.machine import Environment
from toolchain.system import files
from toolchain.system.text import percent
from toolchain.timing.arm import Arm
from toolchain.timing.protocol import LOCAL, at


@dataclass(frozen=True)
class Tolerance:
    """What is let pass: so many percent of latency, so many percentage points of top-1."""

    latency_percent: float = 5.0
    top1_pp: float = 0.5


@dataclass(frozen=True)
class Identity:
    """What an arm is known by. Two arms can only be the same where machine, device, threads and batch are."""

    artifact: str
    """The file's name, without its folder."""
    sha256: str
    precision: str
    device: str
    threads: int
    batch: int
    on: str = LOCAL
    path: str = ""
    """The file as it was named, which tells files of the same name apart; so does the name of its folder."""

    @property
    def folder(self) -> str:
        return Path(self.path).parent.name

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        place = at(self.device, self.on)
        return f"{self.artifact} ({self.precision}) on {place}, {threads}, batch {self.batch}"


@dataclass(frozen=True)
class Paired:
    """Places of the same arm in the two sequences that were paired, and of those that are in one only."""

    both: tuple[tuple[int, int], ...]
    only_old: tuple[int, ...]
    only_new: tuple[int, ...]


@dataclass(frozen=True)
class Foreseen:
    """What is about to be measured. `environments` are the machines by name. `arms` are those whose devices are
    there; those at the places `certain` will run, by what cards and files tell. `chosen` is None where there
    are no photographs with labels."""

    environments: dict[str, Environment]
    chosen: Chosen | None
    arms: tuple[Identity, ...]
    certain: tuple[int, ...]


def read_report(path: Path) -> BenchReport:
    """Read a `bench.json`, or that in a folder. Raises BadInputError, naming the field, when it is none."""
    if path.is_dir():
        path = _in_folder(path)
    try:
        report = files.read_json(path, BenchReport)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}", "Name a bench.json.") from None
    except msgspec.DecodeError as error:
        raise BadInputError(
            f"{path} is no bench.json: {error}", "Name one that `edgetl bench --out` wrote."
        ) from None
    for place, arm in enumerate(report.arms):
        if arm.status == "ok" and (wrong := _wrong_with(arm)):
            raise BadInputError(
                f"{path} is no bench.json: {wrong} - at `$.arms[{place}]`",
                "Name one that `edgetl bench --out` wrote.",
            )
    return report


def _wrong_with(arm: ArmResult) -> str:
    """What nobody measures, in an arm that ran; empty if there is nothing."""
    latency = arm.latency_ms
    if latency is None or min(latency.p50, *latency.p50_ci95, *arm.process_p50_ms) <= 0:
        return "the latency of an arm that ran must be above 0"
    if arm.batch < 1:
        return "its batch must be 1 or more"
    if len(arm.quantiles_ms) not in {0, QUANTILES}:
        return f"its quantiles_ms must be {QUANTILES}"
    return ""


def _in_folder(folder: Path) -> Path:
    if not (folder / JSON_FILE).is_file():
        written = sorted(folder.glob(f"*/{JSON_FILE}"), key=lambda path: path.stat().st_mtime)
        hint = f"Name the one that is meant; the newest: {written[-1]}" if written else f"Name a {JSON_FILE}."
        raise BadInputError(f"{folder} holds no {JSON_FILE}", hint)
    return folder / JSON_FILE


def compare(
    old: BenchReport, new: BenchReport, old_path: str, tolerance: Tolerance, *, force: bool = False
) -> Comparison:
    """Compare arm with arm. Raises BadInputError with all that differs unless the runs are alike, or `force`.

    Latencies of a run that was noisy are shown and not judged.
    """
    old = aligned(old, new.environments)
    differences = differences_of(old, new)
    if differences and not force:
        raise refusal(old_path, differences)
    before, now = _running(old), [arm for arm in new.arms if arm.status != "unavailable"]
    paired = pair([identity_of(arm) for arm in before], [identity_of(arm) for arm in now])
    same_photographs = _are_same(old.data, new.data)
    noisy = tuple(name for name, report in ((old_path, old), ("this run", new)) if report.noisy)
    names = names_of(new.arms)
    changes, lost = [], []
    for place, other in paired.both:
        if now[other].status == "ok":
            name = names[now[other].artifact]
            change = _change(before[place], now[other], name, tolerance, same_photographs)
            changes.append(replace(change, latency="undecided") if noisy else change)
        else:
            lost.append(f"{identity_of(now[other])} {now[other].status}: {now[other].reason}")
    if not changes and not lost:
        raise nothing_in_common(old_path)
    regressions = [line for change in changes for line in _regressions(change)]
    return Comparison(
        old=old_path,
        tolerance_percent=tolerance.latency_percent,
        tolerance_pp=tolerance.top1_pp,
        differences=tuple(differences),
        changes=tuple(changes),
        regressions=(*lost, *regressions),
        noisy=noisy,
    )


HOW_TO_COMPARE = "Measure both alike, or pass --force to compare them all the same."


def refusal(old_path: str, differences: Sequence[str]) -> BadInputError:
    """The error that lists why two runs are not compared."""
    return BadInputError(
        f"{old_path} cannot be compared with this run: {'; '.join(differences)}",
        HOW_TO_COMPARE,
    )


def _are_same(old: Data | None, new: Data | None) -> bool:
    """Whether answers may be compared photograph by photograph."""
    if old is None or new is None:
        return False
    if not (old.order_sha256 and new.order_sha256):  # an earlier version did not write it
        old, new = replace(old, order_sha256=""), replace(new, order_sha256="")
    return old == new


def differences_of(old: BenchReport, new: BenchReport) -> list[str]:
    """In what two runs differ so that their figures mean different things; empty when they may be compared."""
    found = _all_machine_differences(old.environments, new.environments)
    found += _data_differences(old.data, new.data)
    now = [arm for arm in new.arms if arm.status != "unavailable"]
    running = {place for place, arm in enumerate(now) if arm.status == "ok"}
    return found + _arm_differences(old, [identity_of(arm) for arm in now], running)


def refuse_early(old: BenchReport, old_path: str, coming: Foreseen, *, force: bool) -> None:
    """What can be known before anything is measured: raise BadInputError as `compare` would afterwards."""
    data = None
    if coming.chosen is not None:
        chosen = coming.chosen
        data = Data(chosen.data, chosen.split, chosen.split_sha256, n=len(chosen.photographs), skipped=0)
    # Which photographs are unreadable turns out later.
    old = aligned(old, coming.environments)
    before = old.data and replace(old.data, n=old.data.n + old.data.skipped, skipped=0)
    differences = _all_machine_differences(old.environments, coming.environments)
    differences += _data_differences(before, data)
    differences += _arm_differences(old, coming.arms, coming.certain)
    if differences and not force:
        raise refusal(old_path, differences)
    if not pair([identity_of(arm) for arm in _running(old)], coming.arms).both:
        raise nothing_in_common(old_path)


def nothing_in_common(old_path: str) -> BadInputError:
    return BadInputError(
        f"{old_path} and this run have no arm in common", "Measure the same artifacts on the same devices."
    )


def aligned(old: BenchReport, machines: Collection[str]) -> BenchReport:
    """`old` with the name that its machine has now, where each was measured on one: ssh may call it otherwise, and
    a board that measured itself was `local`. Its environment tells what it is."""
    if len(old.environments) != 1 or len(machines) != 1 or set(old.environments) == set(machines):
        return old
    (name,) = machines
    found = MeasuredMachine(name, old.environment, old.during)
    return replace(old, machines=(found,), arms=tuple(replace(arm, on=name) for arm in old.arms))


def _all_machine_differences(old: dict[str, Environment], new: dict[str, Environment]) -> list[str]:
    """In what the machines of the same name differ."""
    several = len(old) > 1 or len(new) > 1
    return [
        f"{name}, {line}" if several else line
        for name in old
        if name in new
        for line in machine_differences(old[name], new[name])
    ]


def machine_differences(old: Environment, new: Environment) -> list[str]:
    """In what two machines differ. Other versions of the software are a change that may be measured."""
    found = []
    for name in ("cpu", "architecture", "flags", "cores", "threads", "quota_cores", "governor"):
        before, now = getattr(old, name), getattr(new, name)
        if before != now:
            nothing = "none" if name == "quota_cores" else "unknown"
            found.append(f"{name}: {_show(before, nothing)} before, {_show(now, nothing)} now")
    return found


def version_changes(old: Environment, new: Environment) -> list[str]:
    """Software that is another than before, for the reader to know."""
    names = sorted(old.versions.keys() | new.versions.keys())
    return [
        f"{name} {old.versions.get(name, 'absent')} → {new.versions.get(name, 'absent')}"
        for name in names
        if old.versions.get(name) != new.versions.get(name)
    ]


def _change(old: ArmResult, new: ArmResult, name: str, tolerance: Tolerance, same_photographs: bool) -> Change:
    assert old.latency_ms is not None
    assert new.latency_ms is not None
    limit = 1 + tolerance.latency_percent / 100
    interval = ratio_ci95(old.latency_ms, new.latency_ms, old.process_p50_ms, new.process_p50_ms)
    ratio = new.latency_ms.p50 / old.latency_ms.p50
    drop = drop_interval = None
    is_lost = False
    before, now = (arm.accuracy.right if arm.accuracy else "" for arm in (old, new))
    if same_photographs and len(before) == len(now) > 0:
        share, (low, high) = paired_drop_ci95(*([one == "1" for one in right] for right in (before, now)))
        drop, drop_interval = share * 100, (low * 100, high * 100)
        is_lost = drop > tolerance.top1_pp and low > 0
    return Change(
        artifact=name,
        precision=new.precision,
        device=new.device,
        threads=new.threads,
        batch=new.batch,
        same_file=old.sha256 == new.sha256,
        old_p50_ms=old.latency_ms.p50,
        new_p50_ms=new.latency_ms.p50,
        ratio=ratio,
        ratio_ci95=interval,
        latency=_verdict(ratio, interval, limit),
        drop_pp=drop,
        drop_pp_ci95=drop_interval,
        accuracy_lost=is_lost,
        old_artifact="" if Path(old.artifact).name == Path(new.artifact).name else Path(old.artifact).name,
        on=new.on,
    )


def _verdict(ratio: float, interval: tuple[float, float], limit: float) -> Verdict:
    if interval[0] > limit:
        return "slower"
    if interval[1] < 1 / limit:
        return "faster"
    return "same" if 1 / limit <= ratio <= limit else "uncertain"


def _regressions(change: Change) -> list[str]:
    threads = f"{change.threads} thread{'s' if change.threads > 1 else ''}"
    name = f"{change.artifact} on {at(change.device, change.on)}, {threads}, batch {change.batch}"
    found = []
    if change.latency == "slower":
        gain = percent(change.ratio - 1, 1, plus=True)
        found.append(f"{name}: {change.old_p50_ms:.2f} → {change.new_p50_ms:.2f} ms, {gain}")
    if change.accuracy_lost:
        found.append(f"{name}: top-1 fell by {change.drop_pp:.2f} pp")
    return found


def _running(report: BenchReport) -> list[ArmResult]:
    return [arm for arm in report.arms if arm.status == "ok"]


def _arm_differences(old: BenchReport, arms: Sequence[Identity], running: Collection[int]) -> list[str]:
    """Arms without a counterpart; of the new `arms`, those at the places `running`."""
    before = [identity_of(arm) for arm in _running(old)]
    paired = pair(before, arms)
    only_old = [f"only in the old run: {before[place]}" for place in paired.only_old]
    return only_old + [f"only in the new run: {arms[place]}" for place in paired.only_new if place in running]


def _data_differences(old: Data | None, new: Data | None) -> list[str]:
    if old is None and new is None:
        return []
    if old is None or new is None:
        return [f"data: {'none' if old is None else old.name} before, {'none' if new is None else new.name} now"]
    fields = ("name", "split", "split_sha256", "n", "skipped")
    return [
        f"data, {field}: {_show(getattr(old, field))} before, {_show(getattr(new, field))} now"
        for field in fields
        if getattr(old, field) != getattr(new, field)
    ]


def _show(value: object, nothing: str = "unknown") -> str:
    if isinstance(value, tuple):
        return ", ".join(str(one) for one in value) or "none"
    return nothing if value is None else str(value)


def identity_of(arm: ArmResult) -> Identity:
    name, path = Path(arm.artifact).name, arm.artifact
    return Identity(name, arm.sha256, arm.precision, arm.device, arm.threads, arm.batch, arm.on, path)


def planned(arm: Arm, threads: int) -> Identity:
    """The identity that an arm will have once it is measured; `threads`: one for each core of its machine."""
    file = arm.artifact
    number = arm.threads or threads
    name, path = file.path.name, str(file.path)
    return Identity(name, file.sha256, file.card.precision, arm.device, number, arm.batch, arm.on, path)


def pair(old: Sequence[Identity], new: Sequence[Identity]) -> Paired:
    """Find each new arm among the old ones: by content, then by path, by folder and name, by name, by precision.

    By the last three only where one old and one new arm are left that it could be, so that nothing is guessed.
    """
    rules: tuple[tuple[Callable[[Identity], Hashable], bool], ...] = (
        (lambda arm: (arm.sha256, arm.artifact, _place(arm)), False),
        (lambda arm: (arm.sha256, arm.precision, _place(arm)), False),
        (lambda arm: (arm.path, arm.precision, _place(arm)), False),
        (lambda arm: (arm.folder, arm.artifact, arm.precision, _place(arm)), True),
        (lambda arm: (arm.artifact, arm.precision, _place(arm)), True),
        (lambda arm: (Path(arm.artifact).suffix, arm.precision, _place(arm)), True),
    )
    both: list[tuple[int, int]] = []
    left_old, left_new = list(range(len(old))), list(range(len(new)))
    for key, only_one in rules:
        for place in list(left_new):
            wanted = key(new[place])
            found = [other for other in left_old if key(old[other]) == wanted]
            rivals = [other for other in left_new if key(new[other]) == wanted]
            if found and (not only_one or len(found) == len(rivals) == 1):
                both.append((found[0], place))
                left_old.remove(found[0])
                left_new.remove(place)
    both.sort(key=lambda places: places[1])
    return Paired(tuple(both), tuple(left_old), tuple(left_new))


def _place(arm: Identity) -> tuple[str, str, int, int]:
    return arm.on, arm.device, arm.threads, arm.batch
