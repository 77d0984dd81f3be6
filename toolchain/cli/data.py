"""`edgetl data`: list, inspect, check and download photographs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import COMMANDS, Group
from toolchain.cli.console import Console, needs, output_options
from toolchain.cli.options import complete_data_sets, features_options
from toolchain.cli.tables import Column, Table, strong
from toolchain.errors import BadInputError, ExitCode
from toolchain.system.text import harmless

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolchain.datasets.check import CheckReport
    from toolchain.datasets.index import DatasetIndex
    from toolchain.datasets.quarantine import Moved
    from toolchain.datasets.splits import Dataset

GROUP_BY_HELP = (
    "Keep groups of photographs on one side of the split: by the folder below that of the class; by prefix, the "
    "name up to a last -, _ or space and number (not for names that a camera counts, as IMG_0001.jpg); or by the "
    "first parenthesis of a pattern. Groups of one name in several classes are one."
)
DATA_HELP = "DATA is pets, cats-vs-dogs, drawn-pets, or a folder of class folders."
MAX_LINES = 20
"""Findings of one kind that are printed; `--json` has all of them."""


@click.group(name="data", cls=Group, help=COMMANDS["data"])
def command() -> None:
    pass


@command.command(name="list", help="List the data sets that have a name, and where they are.")
@output_options
def list_(console: Console) -> None:
    from toolchain.datasets.catalogue import DATASETS, data_root

    root = data_root()
    document: list[dict[str, object]] = []
    lines: list[RenderableType] = []
    for entry in DATASETS.all().values():
        found = entry.find(root)
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
    help=f"Show the classes, splits, hashes and warnings of DATA. {DATA_HELP}",
    short_help="Show the classes, splits, hashes and warnings.",
)
@click.argument("data", shell_complete=complete_data_sets)
@click.option("--group-by", metavar="folder|prefix|regex:PATTERN", help=GROUP_BY_HELP)
@output_options
def info(data: str, group_by: str | None, console: Console) -> None:
    from toolchain.datasets.catalogue import open_dataset

    dataset = open_dataset(data, group_by=group_by, reporter=console)
    if not console.json:
        for warning in dataset.warnings:
            console.warn(warning)
    console.result(_info_document(dataset), *_info_tables(dataset))


@command.command(
    help="Download NAME (pets, cats-vs-dogs) from its publisher. An interrupted download continues next time.",
    short_help="Download a data set from its publisher.",
)
@click.argument("name", shell_complete=complete_data_sets)
@output_options
def fetch(name: str, console: Console) -> None:
    from toolchain.datasets.catalogue import DATASETS, data_root, named
    from toolchain.datasets.fetch import fetch as fetch_data

    entry = named(name)
    if entry is None:
        known = ", ".join(DATASETS.names())
        raise BadInputError(f"no data set called {name!r} can be fetched", f"Choose one of: {known}.")
    folder = fetch_data(entry, data_root(), reporter=console)
    licence = "; ".join(entry.licences.values())
    console.result(
        {"name": name, "path": str(folder), "licences": entry.licences},
        f"{name} is at {folder}\nlicence: {licence}",
    )


@command.command(
    help="Decode every photograph of DATA, and report broken files, duplicates and tiny pictures. The exit code is "
    "1 when a file is unreadable, a photograph is left out, a class has none, or the same photograph is in two "
    f"splits or under two classes. {DATA_HELP}\n\n"
    "Photographs that look alike, such as a burst, are reported where the split would tear them apart: val and "
    "test then flatter the network. --group-by keeps them together, here and in `finetune`.\n\n"
    "--fix moves what training leaves out anyway: unreadable files, and training photographs that are also in val "
    "or test. Photographs under two classes stay where they are: you decide which class is right.",
    short_help="Find broken files, duplicates and tiny pictures.",
)
@click.argument("data", shell_complete=complete_data_sets)
@click.option(
    "--fix",
    is_flag=True,
    help="Move files that cannot be used to DATA.set-aside, beside the data, and check again. Deletes nothing.",
)
@click.option("--group-by", metavar="folder|prefix|regex:PATTERN", help=GROUP_BY_HELP)
@output_options
def check(data: str, fix: bool, group_by: str | None, console: Console) -> int:
    from toolchain.datasets.check import check as check_listing

    index = _listed(data, group_by, console)
    findings = check_listing(index, console)
    moved: tuple[Moved, ...] = ()
    record = None
    if fix:
        from toolchain.datasets.index import first_few
        from toolchain.datasets.quarantine import is_inside, movable, move_out

        chosen = movable(index, findings)
        moved = tuple(one for one in chosen if is_inside(index.root, one.name))
        stay = [one.name for one in chosen if one not in moved]
        if stay:
            count = _count(stay, "file")
            console.warn(f"not moved, since a link leads out of the data to them: {count} ({first_few(stay)})")
        if moved:
            record = move_out(index, moved)
            index = _listed(data, group_by, console)
            findings = check_listing(index, console)
    if not console.json:
        for warning in index.warnings:
            console.warn(warning)
    document = {
        "name": index.name,
        "path": str(index.root),
        "sound": findings.is_sound,
        **vars(findings),
        "near_held_back": findings.near_held_back,
        "warnings": index.warnings,
        "problems": [problem.message for problem in findings.problems],
        "moved": moved,
        "record": str(record) if record else None,
    }
    lines = [*(_moved_lines(moved, record) if fix else ()), *_check_lines(findings)]
    console.result(document, "\n".join(map(harmless, lines)))
    return ExitCode.DONE if findings.is_sound else ExitCode.PROMISE_BROKEN


def _listed(data: str, group_by: str | None, console: Console) -> DatasetIndex:
    from toolchain.datasets.catalogue import list_data
    from toolchain.datasets.groups import with_groups

    index = list_data(data, reporter=console, strict=False)
    return with_groups(index, group_by) if group_by else index


@command.command(
    help="List photographs of DATA whose name is probably wrong. Each is answered by a linear probe that was "
    "fitted on the others, and listed where the answer is surely another name. The network's features must not "
    f"have been taught with these photographs. {DATA_HELP}",
    short_help="Find photographs whose name is probably wrong.",
)
@click.argument("data", shell_complete=complete_data_sets)
@features_options
@output_options
def suspects(data: str, model: str, weights: str, console: Console) -> None:
    needs("torch")
    from toolchain.runs.ready_made import weights_file

    weights_file(weights, model)
    from toolchain.training.suspects import find_suspects

    found = find_suspects(data, model, weights, "auto", console)
    table = Table(
        Column("photograph"),
        Column("its name"),
        Column("the network says"),
        Column("sure of that", right=True),
        Column("of its name", right=True),
    )
    for one in found.found[:MAX_LINES]:
        shares = (f"{one.probability:.3f}", f"{one.label_probability:.3f}")
        table.add(one.name, one.label, one.answer, *shares)
    rest = len(found.found) - MAX_LINES
    lines = [f"and {rest} more (--json lists all)"] if rest > 0 else []
    lines += [
        f"{len(found.found)} of {found.photographs} photographs are surely called otherwise by a network that has "
        f"not seen them; it calls {found.top1:.1%} by their own name."
    ]
    console.result(found, *([table] if found.found else []), *lines)


@command.command(
    help="Show where `finetune` keeps decoded photographs for its next run, and how many. EDGETL_CACHE sets the "
    "folder, EDGETL_CACHE_MB the limit. The cache can be emptied at any time.",
    short_help="Show or empty the cache of decoded photographs.",
)
@click.option("--clear", is_flag=True, help="Empty the cache.")
@output_options
def cache(clear: bool, console: Console) -> None:
    from toolchain.images.cache import cache_folder, cache_state, clear_cache

    found = cache_state(cache_folder())
    if clear:
        clear_cache(cache_folder())
    content = f"{found.photographs} photographs, {found.size_mb:,.0f} MB of at most {found.limit_mb:,.0f} MB"
    line = f"removed: {content}" if clear else f"{content}\nto empty it: edgetl data cache --clear"
    console.result({"cache": found, "cleared": clear}, f"{found.path}\n{line}")


@command.command(
    help="Move the files that `check --fix` or `review` has moved back to where they were. RECORD is the JSON file "
    "it named.",
    short_help="Undo check --fix, or a review.",
)
@click.argument("record", type=click.Path(path_type=Path))
@output_options
def restore(record: Path, console: Console) -> None:
    from toolchain.datasets import journal, quarantine

    names = journal.restore(record) if journal.is_journal(record) else quarantine.restore(record)
    console.result(
        {"restored": names}, "\n".join(map(harmless, [f"{_count(names, 'file')} moved back", *_shortened(names)]))
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
        "problems that prevent training": [problem.message for problem in findings.problems],
        "files left out that may be photographs": [f"{one.name}: {one.reason}" for one in findings.lost],
        "unreadable files": [f"{bad.name}: {bad.reason}" for bad in findings.unreadable],
        "photographs in more than one split": [" = ".join(names) for names in findings.copies_across_splits],
        "photographs under more than one class": [" = ".join(names) for names in findings.copies_across_classes],
        "duplicates within a class": [" = ".join(names) for names in findings.copies_within],
        "tiny photographs": [f"{tiny.name}: {tiny.width} x {tiny.height} pixels" for tiny in findings.tiny],
    }
    near = [" ~ ".join(f"{one.name} ({one.split})" for one in group) for group in findings.near_across_splits]
    kinds[f"groups that look alike across splits, with {findings.near_held_back} photographs of val and test"] = (
        near
    )
    lines = [f"checked {findings.photographs} photographs; {_count(findings.left_out, 'other file')}"]
    for kind, found in kinds.items():
        if found:
            lines += [f"{kind}: {len(found)}", *_shortened(found)]
    if near:
        lines.append("they flatter val and test: keep them together with --group-by, here and in finetune")
    sound = findings.is_sound
    return [*lines, "the data set is sound" if sound else "the data set is not sound: remove or correct the above"]


def _moved_lines(moved: Sequence[Moved], record: Path | None) -> list[str]:
    if record is None:
        return ["there is nothing to move"]
    lines = [f"{_count(moved, 'file')} moved to {record.with_suffix('')}:"]
    lines += _shortened([f"{one.name}: {one.reason}" for one in moved])
    return [*lines, f"to undo this: edgetl data restore {shlex.quote(str(record))}", "", "after the move:"]


def _count(things: Sequence[object], noun: str) -> str:
    """How many: "1 file", "2 files"."""
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def _shortened(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - MAX_LINES
    return [f"  {line}" for line in lines[:MAX_LINES]] + (
        [f"  and {rest} more (--json lists all)"] if rest > 0 else []
    )
