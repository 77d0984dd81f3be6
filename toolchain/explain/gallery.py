"""What every `edgetl explain` command writes: a folder of pictures and one page that shows them."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from toolchain._version import __version__
from toolchain.errors import BadInputError
from toolchain.explain.pictures import as_png
from toolchain.images.preprocess import Image
from toolchain.system import claims, files

PAGE_FILE = "index.html"
DEFAULT_FOLDER = Path("explain")
LONGEST_STEM = 80
NEEDS = ("jinja2", "matplotlib")
"""What the page needs (the extra `report`). Pictures are written without it."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page, `image` uint8 RGB. Its file is called `name` (see `stems`) with `.png` added.

    It is shown `zoom` times enlarged, without smoothing, with `facts` below it.
    """

    name: str
    image: Image
    caption: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    zoom: int = 1


@dataclass(frozen=True)
class Animation:
    """The same for an encoded GIF, `data`."""

    name: str
    data: bytes
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """`rows` of cells under `columns`; the first cell names the row. Numbers are already formatted."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading. It shows, in this order and if given: text, pictures, plots, table.

    `plots` are SVG (`toolchain.pages.svg.to_svg`).
    """

    title: str
    text: str = ""
    pictures: Sequence[Picture | Animation] = ()
    plots: Sequence[str] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Page:
    """A page: a heading, `sentences` that say what was found, sections, and the `settings` that it was made with.

    The pictures `beside` are written as files, but not shown on the page.
    """

    title: str
    sentences: Sequence[str]
    sections: Sequence[Section]
    settings: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[Picture] = ()


@contextmanager
def new_folder(out: Path | None, kind: str) -> Iterator[tuple[Path, Path]]:
    """Yield (folder to write into, its final path), which is `out` or the first free `explain/<kind>-<n>`.

    The folder gets its final name when the block succeeds. If the block fails or is interrupted, nothing is left. A
    folder that cannot be written to is noticed before anything is computed. Raises BadInputError if `out` is not
    empty, or in use by another process, or if nobody named a folder and `explain` leads elsewhere.
    """
    first = out or DEFAULT_FOLDER / f"{kind}-1"
    if out is None and DEFAULT_FOLDER.is_symlink():  # it may have come with a folder of others
        raise BadInputError(f"{DEFAULT_FOLDER} is a link, and not followed", "Name a folder with --out.")
    # An empty folder may be a mounted disk or a link. A folder beside it could not be renamed into its place.
    there = first.exists() and out is not None
    made = [parent for parent in first.parents if not parent.exists()]
    done = False
    beside = None
    claim = ExitStack()
    try:
        try:
            first.parent.mkdir(parents=True, exist_ok=True)
            target = _claimed(out, kind, claim) if out else _free_folder(kind, claim)
            beside = files.fresh(target / kind if there else target)
            beside.mkdir()
        except OSError as error:
            raise BadInputError(
                f"{first} cannot be written: {error.strerror}", "Name a folder that can, with --out."
            ) from None
        yield beside, target
        if there:
            for written in beside.iterdir():
                written.rename(target / written.name)
            beside.rmdir()
        else:
            beside.rename(target)
        done = True
    finally:
        claim.close()
        if not done:
            if beside is not None:
                shutil.rmtree(beside, ignore_errors=True)
            for parent in made:
                with suppress(OSError):  # it was not made, or something is in it
                    parent.rmdir()


def write(folder: Path, page: Page) -> list[str]:
    """Write the page's pictures as PNG and GIF and the page itself into `folder`; return the names of the files.

    A picture shown in two sections is written once. Without the extra `report` there is no page (see `has_page`).
    """
    shown = [one for section in page.sections for one in section.pictures]
    pictures = list({id(one): one for one in (*shown, *page.beside)}.values())
    names, sources = {}, {}
    for picture, stem in zip(pictures, stems([one.name for one in pictures]), strict=True):
        kind = "gif" if isinstance(picture, Animation) else "png"
        data = picture.data if isinstance(picture, Animation) else as_png(picture.image)
        names[id(picture)] = f"{stem}.{kind}"
        sources[id(picture)] = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        files.write_bytes(folder / names[id(picture)], data)
    if not has_page():
        return list(names.values())
    from toolchain.pages import write_page

    content = {
        "page": page,
        "version": __version__,
        "source": lambda picture: sources[id(picture)],
        "file": lambda picture: names[id(picture)],
        "is_picture": lambda picture: isinstance(picture, Picture),
        "number": _number,
    }
    write_page(folder / PAGE_FILE, Path(__file__).with_name("gallery.html.jinja"), content, {})
    return [*names.values(), PAGE_FILE]


def has_page() -> bool:
    """Whether the page can be made here: the extra `report` is installed."""
    return all(find_spec(name) for name in NEEDS)


def _claimed(target: Path, kind: str, claim: ExitStack) -> Path:
    """`target`, held by `claim`, without what killed processes have left of it.

    Raises BadInputError if it is not empty, or another process holds it.
    """
    claim.enter_context(claims.writing(target, "writing it", "Name another folder with --out."))
    for left in (*files.leftovers(target), *files.leftovers(target / kind)):
        shutil.rmtree(left, ignore_errors=True)
    if os.path.lexists(target) and (not target.is_dir() or not claims.is_empty(target)):
        raise BadInputError(f"{target} is there already", "Name a new folder with --out.")
    return target


def _free_folder(kind: str, claim: ExitStack) -> Path:
    """The first folder that does not exist and that no other process holds."""
    for number in count(1):
        folder = DEFAULT_FOLDER / f"{kind}-{number}"
        if not os.path.lexists(folder):
            with suppress(BadInputError):
                return _claimed(folder, kind, claim)
    raise AssertionError("there is always one more number")


def stems(names: Sequence[str], endings: Sequence[str] = ()) -> list[str]:
    """Names of files, without suffix, for classes or photographs of any name.

    All are different, also with one of the `endings` behind them, even on file systems that ignore case, and valid
    on every file system.
    """
    longest = LONGEST_STEM - max(map(len, endings), default=0)
    found: list[str] = []
    taken: set[str] = set()
    for wanted in names:
        plain = re.sub(r"[^\w.-]+", "_", wanted).strip("._")[:longest] or "picture"
        number, stem = 1, plain
        while not taken.isdisjoint(whole := {f"{stem}{end}".casefold() for end in ("", *endings)}):
            number += 1
            mark = f"-{number}"
            stem = f"{plain[: longest - len(mark)]}{mark}"
        taken |= whole
        found.append(stem)
    return found


def percent(value: float) -> str:
    """A fraction as a person reads it, on a page."""
    return f"{100 * value:.1f}\u00a0%"


def _number(cell: str) -> float | None:
    """The value to sort a cell by; None if it is not a number."""
    try:
        return float(cell.replace("\u00a0", "").replace(",", "").rstrip("%"))
    except ValueError:
        return None
