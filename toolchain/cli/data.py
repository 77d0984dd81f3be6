"""`edgetl data`: list, inspect, check and download photographs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import COMMANDS, Group, completion
from toolchain.cli.console import Console, output_options
from toolchain.cli.tables import Column, Table, strong
from toolchain.errors import ExitCode
from toolchain.system.names import harmless

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.datasets.check import CheckReport
    from toolchain.datasets.photographs import Dataset
    from toolchain.datasets.quarantine import Moved

DATA_HELP = "DATA is pets, cats-vs-dogs, drawn-pets, or a folder of class folders."
SHOWN = 20
"""Findings of one kind that are printed for people; `--json` has all of them."""


@click.group(name="data", cls=Group, help=COMMANDS["data"])
def command() -> None:
    pass


@command.command(name="list", help="Show the data sets that have a name, and whether they are here.")
@output_options
def list_(console: Console) -> None:
    from toolchain.datasets.catalogue import ENTRIES, data_root, locate

    root = data_root()
    document: list[dict[str, object]] = []
    lines: list[RenderableType] = []
    for entry in ENTRIES.values():
        found = locate(entry, root)
        missing = f"not here: edgetl data fetch {entry.name}" if entry.downloads else "drawn when first used"
        lines += [
            strong(entry.name),
            f"  {entry.description}",
            f"  {entry.classes} classes, {entry.photographs} photographs",
            f"  licence: {'; '.join(entry.licences.values())}",
            f"  {f'found: {found}' if found else missing}",
            "",
        ]
        document.append(
            {
                "name": entry.name,
                "description": entry.description,
                "classes": entry.classes,
                "photographs": entry.photographs,
                "licences": entry.licences,
                "homepage": entry.homepage,
                "download_bytes": sum(source.size_bytes for source in entry.downloads),
                "path": str(found) if found else None,
            }
        )
    lines.append(f"Data sets are looked for under {root} (set EDGETL_DATA to change it).")
    console.result({"data_root": str(root), "data_sets": document}, *lines)


@command.command(
    help=f"Show classes, splits, hashes and warnings of DATA. {DATA_HELP}",
    short_help="Show classes, splits, hashes and warnings.",
)
@click.argument("data", shell_complete=completion.data_sets)
@output_options
def info(data: str, console: Console) -> None:
    from toolchain.datasets.catalogue import open_dataset

    dataset = open_dataset(data, reporter=console)
    if not console.json:
        for warning in dataset.warnings:
            console.warn(warning)
    console.result(_info_document(dataset), *_info_tables(dataset))


@command.command(
    help="Download NAME (pets, cats-vs-dogs) from its publisher; an interrupted download goes on.",
    short_help="Download a data set from its publisher.",
)
@click.argument("name", shell_complete=completion.data_sets)
@output_options
def fetch(name: str, console: Console) -> None:
    from toolchain.datasets.catalogue import ENTRIES, data_root
    from toolchain.datasets.fetch import fetch as fetch_data

    folder = fetch_data(name, data_root(), reporter=console, entries=ENTRIES)
    entry = ENTRIES[name]
    licence = "; ".join(entry.licences.values())
    console.result(
        {"name": name, "path": str(folder), "licences": entry.licences},
        f"{name} is at {folder}\nlicence: {licence}",
    )


@command.command(
    help="Decode every photograph of DATA; look for broken files, copies and tiny pictures. Exits with 1 when "
    "files are unreadable, photographs are left out, a class has none, or the same photograph is in two splits or "
    f"under two classes. {DATA_HELP}\n\n"
    "--fix moves what training leaves out anyway: unreadable files, and training photographs that are also in val "
    "or test. Copies under two classes stay, for a person to judge.",
    short_help="Look for broken files, copies and tiny pictures.",
)
@click.argument("data", shell_complete=completion.data_sets)
@click.option(
    "--fix",
    is_flag=True,
    help="Move what cannot be used into DATA.set-aside, beside the data, and check again. Nothing is deleted.",
)
@output_options
def check(data: str, fix: bool, console: Console) -> int:
    from toolchain.datasets.catalogue import list_data
    from toolchain.datasets.check import check as check_listing

    listing = list_data(data, reporter=console, strict=False)
    findings = check_listing(listing, console)
    moved: tuple[Moved, ...] = ()
    record = None
    if fix:
        from toolchain.datasets.quarantine import set_aside, to_move

        moved = to_move(listing, findings)
        if moved:
            record = set_aside(listing, moved)
            listing = list_data(data, reporter=console, strict=False)
            findings = check_listing(listing, console)
    if not console.json:
        for warning in listing.warnings:
            console.warn(warning)
    document = {
        "name": listing.name,
        "path": str(listing.root),
        "sound": findings.is_sound,
        "photographs": findings.photographs,
        "unreadable": findings.unreadable,
        "copies_across_splits": findings.copies_across_splits,
        "copies_across_classes": findings.copies_across_classes,
        "copies_within": findings.copies_within,
        "tiny": findings.tiny,
        "warnings": listing.warnings,
        "left_out": findings.left_out,
        "problems": [problem.message for problem in findings.problems],
        "moved": moved,
        "record": str(record) if record else None,
    }
    lines = [*(_moved_lines(moved, record) if fix else ()), *_check_lines(findings)]
    console.result(document, "\n".join(map(harmless, lines)))
    return ExitCode.DONE if findings.is_sound else ExitCode.PROMISE_BROKEN


@command.command(
    help="Show how many decoded photographs `finetune` keeps for its next run, where, and how many it may "
    "(EDGETL_CACHE, EDGETL_CACHE_MB). They can be removed at any time.",
    short_help="Show or empty the cache of decoded photographs.",
)
@click.option("--clear", is_flag=True, help="Remove them.")
@output_options
def cache(clear: bool, console: Console) -> None:
    from toolchain.images.cache import cache_folder, cache_state, clear_cache

    found = cache_state(cache_folder())
    if clear:
        clear_cache(cache_folder())
    said = f"{found.photographs} photographs, {found.size_mb:,.0f} MB of at most {found.limit_mb:,.0f} MB"
    line = f"removed: {said}" if clear else f"{said}\nempty it: edgetl data cache --clear"
    console.result({"cache": found, "cleared": clear}, f"{found.path}\n{line}")


@command.command(
    help="Put the files that `check --fix` moved back to where they were. RECORD is the JSON file that it named.",
    short_help="Undo what check --fix moved.",
)
@click.argument("record", type=click.Path(path_type=Path))
@output_options
def restore(record: Path, console: Console) -> None:
    from toolchain.datasets.quarantine import put_back

    names = put_back(record)
    console.result(
        {"restored": names}, "\n".join(map(harmless, [f"put back {len(names)} files", *_shortened(names)]))
    )


def _info_document(dataset: Dataset) -> dict[str, object]:
    return {
        "name": dataset.name,
        "path": str(dataset.root),
        "sha256": dataset.sha256,
        "classes": dataset.classes,
        "splits": {
            split: {
                "photographs": len(photos),
                "per_class": dict(zip(dataset.classes, _per_class(dataset, split), strict=True)),
                "sha256": dataset.split_sha256(split),
            }
            for split, photos in dataset.splits.items()
        },
        "licences": dataset.licences,
        "warnings": dataset.warnings,
        "left_out": dataset.left_out,
    }


def _info_tables(dataset: Dataset) -> tuple[RenderableType, ...]:
    counts = Table(Column("class"), *(Column(split, right=True) for split in dataset.splits))
    hashes = Table(Column("split"), Column("photographs", right=True), Column("sha256 (whole: --json)", 1))
    per_class = {split: _per_class(dataset, split) for split in dataset.splits}
    for split, photos in dataset.splits.items():
        hashes.add(split, str(len(photos)), dataset.split_sha256(split)[:16])
    for label, name in enumerate(dataset.classes):
        counts.add(name, *(str(per_class[split][label]) for split in dataset.splits))
    totals = [str(len(photos)) for photos in dataset.splits.values()]
    counts.add(f"{len(dataset.classes)} classes", *totals, bold=True)
    licences = "; ".join(f"{what}: {terms}" for what, terms in dataset.licences.items())
    head = f"{dataset.name}: {dataset.root}"
    return (head, counts, "", hashes, *([f"\nlicence: {licences}"] if licences else []))


def _per_class(dataset: Dataset, split: str) -> list[int]:
    have = Counter(photo.label for photo in dataset.splits[split])
    return [have[label] for label in range(len(dataset.classes))]


def _check_lines(findings: CheckReport) -> list[str]:
    kinds = {
        "in the way of training": [problem.message for problem in findings.problems],
        "left out, and may be photographs": [f"{one.name}: {one.reason}" for one in findings.lost],
        "unreadable": [f"{bad.name}: {bad.reason}" for bad in findings.unreadable],
        "in more than one split": [" = ".join(names) for names in findings.copies_across_splits],
        "under more than one class": [" = ".join(names) for names in findings.copies_across_classes],
        "there more than once": [" = ".join(names) for names in findings.copies_within],
        "tiny": [f"{tiny.name}: {tiny.width} x {tiny.height} pixels" for tiny in findings.tiny],
    }
    lines = [f"{findings.photographs} photographs", f"{len(findings.left_out)} other files"]
    for kind, found in kinds.items():
        lines += [f"{len(found)} {kind}", *_shortened(found)]
    lines.append("sound" if findings.is_sound else "not sound: remove or sort what is listed above")
    return lines


def _moved_lines(moved: Sequence[Moved], record: Path | None) -> list[str]:
    if record is None:
        return ["nothing to move"]
    lines = [f"moved {len(moved)} files to {record.with_suffix('')}"]
    lines += _shortened([f"{one.name}: {one.reason}" for one in moved])
    return [*lines, f"undo: edgetl data restore {shlex.quote(str(record))}", "", "after that:"]


def _shortened(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - SHOWN
    return [f"  {line}" for line in lines[:SHOWN]] + ([f"  and {rest} more (--json lists all)"] if rest > 0 else [])
