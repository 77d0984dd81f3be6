"""Which arm of a run is which of an older one: files may have been renamed, and their content may have changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolchain.artifact import Artifact
from toolchain.bench.inputs import Chosen
from toolchain.bench.results import ArmResult
from toolchain.runtimes.machine import Environment
from toolchain.system.processor import cores


@dataclass(frozen=True)
class Identity:
    """What an arm is known by. Two arms can only be the same where device, threads and batch are."""

    artifact: str
    """The file's name, without its folder."""
    sha256: str
    precision: str
    device: str
    threads: int
    batch: int

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.artifact} ({self.precision}) on {self.device}, {threads}, batch {self.batch}"


@dataclass(frozen=True)
class Paired:
    """Places of the same arm in the two sequences that were paired, and of those that are in one only."""

    both: tuple[tuple[int, int], ...]
    only_old: tuple[int, ...]
    only_new: tuple[int, ...]


@dataclass(frozen=True)
class Foreseen:
    """What is about to be measured. `arms` are those whose devices are here; those at the places `certain` will
    run, as far as their cards and files tell. `chosen` is None where there are no photographs with labels."""

    environment: Environment
    chosen: Chosen | None
    arms: tuple[Identity, ...]
    certain: tuple[int, ...]


def identity_of(arm: ArmResult) -> Identity:
    return Identity(Path(arm.artifact).name, arm.sha256, arm.precision, arm.device, arm.threads, arm.batch)


def planned(artifact: Artifact, device: str, threads: int, batch: int) -> Identity:
    """The identity that an arm will have once it is measured; `threads` 0 is one for each core."""
    return Identity(artifact.path.name, artifact.sha256, artifact.card.precision, device, threads or cores(), batch)


def pair(old: Sequence[Identity], new: Sequence[Identity]) -> Paired:
    """Find each new arm among the old ones: by content first, then by name, then by precision alone.

    By precision only where one old and one new arm are left that it could be, so that nothing is guessed.
    """
    rules: tuple[tuple[Callable[[Identity], Hashable], bool], ...] = (
        (lambda arm: (arm.sha256, arm.artifact, _place(arm)), False),
        (lambda arm: (arm.sha256, arm.precision, _place(arm)), False),
        (lambda arm: (arm.artifact, arm.precision, _place(arm)), False),
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


def _place(arm: Identity) -> tuple[str, int, int]:
    return arm.device, arm.threads, arm.batch
