"""`edgetl data`: list, inspect, check and download photographs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from toolchain.cli import COMMANDS
from toolchain.cli.console import Console, output_options
from toolchain.errors import ExitCode
from toolchain.names import harmless

if TYPE_CHECKING:
    from toolchain.datasets.aside import Moved
    from toolchain.datasets.check import Findings
    from toolchain.datasets.photographs import Dataset

DATA_HELP = "DATA is pets, cats-vs-dogs, drawn-pets, or a folder of class folders."
SHOWN = 20
"""Findings of one kind that are printed for people; `--json` has all of them."""


@click.group(name="data", help=COMMANDS["data"])
def command() -> None:
    pass


@command.command(name="list", help="Show the data sets that have a name, and whether they are here.")
@output_options
def list_(console: Console) -> None:
    from toolchain.datasets.catalogue import ENTRIES, data_root, locate

    root = data_root()
    document, lines = [], []
    for entry in ENTRIES.values():
        found = locate(entry, root)
        missing = f"not here: edgetl data fetch {entry.name}" if entry.downloads else "drawn when first used"
        lines += [
            f"[bold]{entry.name}[/bold]  {escape(entry.description)}",
            f"  {entry.classes} classes, {entry.photographs} photographs",
            f"  licence: {escape('; '.join(entry.licences.values()))}",
            f"  {escape(f'found: {found}' if found else missing)}",
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
    lines.append(escape(f"Data sets are looked for under {root} (set EDGETL_DATA to change it)."))
    console.result({"data_root": str(root), "data_sets": document}, "\n".join(lines))


@command.command(
    help=f"Show classes, splits, hashes and warnings of DATA. {DATA_HELP}",
    short_help="Show classes, splits, hashes and warnings.",
)
@click.argument("data")
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
@click.argument("name")
@output_options
def fetch(name: str, console: Console) -> None:
    from toolchain.datasets.catalogue import ENTRIES, data_root
    from toolchain.datasets.fetch import fetch as fetch_data

    folder = fetch_data(name, data_root(), reporter=console, entries=ENTRIES)
    entry = ENTRIES[name]
    licence = "; ".join(entry.licences.values())
    console.result(
        {"name": name, "path": str(folder), "licences": entry.licences},
        escape(f"{name} is at {folder}\nlicence: {licence}"),
    )


@command.command(
    help="Decode every photograph of DATA; look for broken files, copies and tiny pictures. Exits with 1 when "
    f"files are unreadable, or the same photograph is in two splits or under two classes. {DATA_HELP}\n\n"
    "--fix moves what training leaves out anyway: unreadable files, and training photographs that are also in val "
    "or test. Copies under two classes stay, for a person to judge.",
    short_help="Look for broken files, copies and tiny pictures.",
)
@click.argument("data")
@click.option(
    "--fix",
    is_flag=True,
    help="Move what cannot be used into DATA.set-aside, beside the data, and check again. Nothing is deleted.",
)
@output_options
def check(data: str, fix: bool, console: Console) -> int:
    from toolchain.datasets.catalogue import list_data
    from toolchain.datasets.check import check as check_listing

    listing = list_data(data, reporter=console)
    findings = check_listing(listing, console)
    moved: tuple[Moved, ...] = ()
    record = None
    if fix:
        from toolchain.datasets.aside import set_aside, to_move

        moved = to_move(listing, findings)
        if moved:
            record = set_aside(listing, moved)
            listing = list_data(data, reporter=console)
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
        "moved": moved,
        "record": str(record) if record else None,
    }
    lines = [*(_moved_lines(moved, record) if fix else ()), *_check_lines(findings)]
    console.result(document, escape("\n".join(map(harmless, lines))))
    return ExitCode.DONE if findings.is_sound else ExitCode.PROMISE_BROKEN


@command.command(
    help="Put the files that `check --fix` moved back to where they were. RECORD is the JSON file that it named.",
    short_help="Undo what check --fix moved.",
)
@click.argument("record", type=click.Path(path_type=Path))
@output_options
def restore(record: Path, console: Console) -> None:
    from toolchain.datasets.aside import put_back

    names = put_back(record)
    lines = [f"put back {len(names)} files", *_shortened(names)]
    console.result({"restored": names}, escape("\n".join(map(harmless, lines))))


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
    }


def _info_tables(dataset: Dataset) -> tuple[str | Table, ...]:
    counts = Table("class", box=None, pad_edge=False)
    hashes = Table("split", "photographs", "sha256 (whole: --json)", box=None, pad_edge=False)
    per_class = {split: _per_class(dataset, split) for split in dataset.splits}
    for split, photos in dataset.splits.items():
        counts.add_column(split, justify="right")
        hashes.add_row(split, str(len(photos)), dataset.split_sha256(split)[:16])
    for label, name in enumerate(dataset.classes):
        counts.add_row(escape(name), *(str(per_class[split][label]) for split in dataset.splits))
    counts.add_section()
    totals = [str(len(photos)) for photos in dataset.splits.values()]
    counts.add_row(f"{len(dataset.classes)} classes", *totals, style="bold")
    licences = "; ".join(f"{what}: {terms}" for what, terms in dataset.licences.items())
    head = escape(f"{dataset.name}: {dataset.root}")
    return (head, counts, "", hashes, *([escape(f"\nlicence: {licences}")] if licences else []))


def _per_class(dataset: Dataset, split: str) -> list[int]:
    have = Counter(photo.label for photo in dataset.splits[split])
    return [have[label] for label in range(len(dataset.classes))]


def _check_lines(findings: Findings) -> list[str]:
    kinds = {
        "unreadable": [f"{bad.name}: {bad.reason}" for bad in findings.unreadable],
        "in more than one split": [" = ".join(names) for names in findings.copies_across_splits],
        "under more than one class": [" = ".join(names) for names in findings.copies_across_classes],
        "there more than once": [" = ".join(names) for names in findings.copies_within],
        "tiny": [f"{tiny.name}: {tiny.width} x {tiny.height} pixels" for tiny in findings.tiny],
    }
    lines = [f"{findings.photographs} photographs"]
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
