"""A new benchmark beside an old one: what changed, whether beyond chance, and whether the two may be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from toolchain import files
from toolchain.bench.machine import Environment
from toolchain.bench.results import ArmResult, Change, Comparison, Data, Report, Verdict
from toolchain.bench.statistics import Z95, Latency
from toolchain.errors import BadInputError

Key = tuple[str, str, str, int, int]


@dataclass(frozen=True)
class Tolerance:
    """What is let pass: so many percent of latency, so many percentage points of top-1."""

    latency_percent: float = 5.0
    top1_pp: float = 0.5


def read_report(path: Path) -> Report:
    """Read a `bench.json`. Raises BadInputError, naming the field, when it is none."""
    try:
        return files.from_json(path.read_bytes(), Report)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}", "Name a bench.json.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"{path} is no bench.json: {error}", "Name one that `edgetl bench --out` wrote."
        ) from None


def compare(old: Report, new: Report, old_path: str, tolerance: Tolerance, *, force: bool = False) -> Comparison:
    """Compare arm with arm. Raises BadInputError with all that differs unless the runs are alike, or `force`."""
    differences = differences_of(old, new)
    if differences and not force:
        raise refusal(old_path, differences)
    before = {key_of(arm): arm for arm in old.arms if arm.status == "ok"}
    same_photographs = old.data is not None and old.data == new.data
    changes = [
        _change(before[key_of(arm)], arm, tolerance, same_photographs)
        for arm in new.arms
        if arm.status == "ok" and key_of(arm) in before
    ]
    if not changes:
        raise BadInputError(f"{old_path} and this run have no arm in common", "Measure the same artifacts.")
    lost = [f"{_name(arm)} {arm.status}: {arm.reason}" for arm in _lost(before, new.arms)]
    regressions = [line for change in changes for line in _regressions(change)]
    return Comparison(
        old=old_path,
        tolerance_percent=tolerance.latency_percent,
        tolerance_pp=tolerance.top1_pp,
        differences=tuple(differences),
        changes=tuple(changes),
        regressions=(*lost, *regressions),
    )


def refusal(old_path: str, differences: Sequence[str]) -> BadInputError:
    """The error that lists why two runs are not compared."""
    return BadInputError(
        f"{old_path} cannot be compared with this run: {'; '.join(differences)}",
        "Measure both alike, or pass --force to compare them all the same.",
    )


def differences_of(old: Report, new: Report) -> list[str]:
    """In what two runs differ so that their figures mean different things; empty when they may be compared."""
    found = machine_differences(old.environment, new.environment)
    found += _data_differences(old.data, new.data)
    before = {key_of(arm) for arm in old.arms if arm.status == "ok"}
    now = {key_of(arm) for arm in new.arms if arm.status == "ok"}
    failed = {key_of(arm) for arm in new.arms if arm.status == "failed"}
    for which, keys in (("old", before - now - failed), ("new", now - before)):
        found += [f"only in the {which} run: {_describe(key)}" for key in sorted(keys)]
    return found


def machine_differences(old: Environment, new: Environment) -> list[str]:
    """In what two machines differ. Other versions of the software are a change that may be measured."""
    found = []
    for name in ("cpu", "architecture", "flags", "cores", "threads", "governor"):
        before, now = getattr(old, name), getattr(new, name)
        if before != now:
            found.append(f"{name}: {_show(before)} before, {_show(now)} now")
    return found


def version_changes(old: Environment, new: Environment) -> list[str]:
    """Software that is another than before, for the reader to know."""
    names = sorted(old.versions.keys() | new.versions.keys())
    return [
        f"{name} {old.versions.get(name, 'absent')} → {new.versions.get(name, 'absent')}"
        for name in names
        if old.versions.get(name) != new.versions.get(name)
    ]


def key_of(arm: ArmResult) -> Key:
    """What makes two arms the same: the file's name, and how it was run. Its content may have changed."""
    return (Path(arm.artifact).name, arm.precision, arm.device, arm.threads, arm.batch)


def ratio_ci95(old: Latency, new: Latency) -> tuple[float, float]:
    """95 % interval of the ratio of two medians, each known by its own interval (log-normal errors)."""
    spread = math.hypot(*(math.log(one.p50_ci95[1] / one.p50_ci95[0]) / 2 for one in (old, new)))
    ratio = new.p50 / old.p50
    return ratio * math.exp(-spread), ratio * math.exp(spread)


def drop_ci95(old: str, new: str) -> tuple[float, tuple[float, float]]:
    """Top-1 lost between two answers to the same photographs (`Accuracy.right`), and its 95 % interval; fractions.

    The adjusted Wald interval for paired shares (Bonett and Price 2012): only changed answers count.
    """
    n = len(old)
    lost = sum(a > b for a, b in zip(old, new, strict=True))
    won = sum(a < b for a, b in zip(old, new, strict=True))
    drop = (lost - won) / n
    p_lost, p_won = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    half = Z95 * math.sqrt((p_lost + p_won - (p_lost - p_won) ** 2) / (n + 2))
    centre = p_lost - p_won
    return drop, (centre - half, centre + half)


def _change(old: ArmResult, new: ArmResult, tolerance: Tolerance, same_photographs: bool) -> Change:
    assert old.latency_ms is not None
    assert new.latency_ms is not None
    limit = 1 + tolerance.latency_percent / 100
    interval = ratio_ci95(old.latency_ms, new.latency_ms)
    ratio = new.latency_ms.p50 / old.latency_ms.p50
    drop = drop_interval = None
    is_lost = False
    before, now = (arm.accuracy.right if arm.accuracy else "" for arm in (old, new))
    if same_photographs and len(before) == len(now) > 0:
        share, (low, high) = drop_ci95(before, now)
        drop, drop_interval = share * 100, (low * 100, high * 100)
        is_lost = drop > tolerance.top1_pp and low > 0
    return Change(
        artifact=Path(new.artifact).name,
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
    )


def _verdict(ratio: float, interval: tuple[float, float], limit: float) -> Verdict:
    if interval[0] > limit:
        return "slower"
    if interval[1] < 1 / limit:
        return "faster"
    return "same" if 1 / limit <= ratio <= limit else "uncertain"


def _regressions(change: Change) -> list[str]:
    name = f"{change.artifact} on {change.device}, {change.threads} threads, batch {change.batch}"
    found = []
    if change.latency == "slower":
        found.append(f"{name}: {change.old_p50_ms:.2f} → {change.new_p50_ms:.2f} ms, {change.ratio - 1:+.1%}")
    if change.accuracy_lost:
        found.append(f"{name}: top-1 fell by {change.drop_pp:.2f} pp")
    return found


def _lost(before: dict[Key, ArmResult], arms: Sequence[ArmResult]) -> list[ArmResult]:
    return [arm for arm in arms if arm.status == "failed" and key_of(arm) in before]


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


def _name(arm: ArmResult) -> str:
    return _describe(key_of(arm))


def _describe(key: Key) -> str:
    artifact, precision, device, threads, batch = key
    return f"{artifact} ({precision}) on {device}, {threads} threads, batch {batch}"


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(one) for one in value) or "none"
    return "unknown" if value is None else str(value)
