"""Tables that fit the terminal. Columns are left out before a name that must be typed is cut."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from toolchain.system.text import harmless

GAP = 2
FOLDED = 24
"""Cells: what a column that may be folded needs at least, if it does not say otherwise."""
HEAD_LINES = 4
"""Of a headline that is broken between its words."""


@dataclass(frozen=True)
class Column:
    """`rank` 0 always stays; where the terminal is too narrow, the highest rank goes first, the last of equal ones.

    What `folds` may take several lines, of `least` cells or more; nothing else is ever broken or cut.
    """

    name: str
    rank: int = 0
    right: bool = False
    folds: bool = False
    least: int = FOLDED


class Table:
    """Rows of plain text under columns. Printed by `Console.result`; cells are taken as they are, brackets too."""

    def __init__(self, *columns: Column, title: str = "") -> None:
        self.columns = columns
        self.title = harmless(title)
        self.rows: list[tuple[tuple[str, ...], bool]] = []

    def add(self, *cells: str, bold: bool = False) -> None:
        assert len(cells) == len(self.columns)
        self.rows.append((tuple(harmless(" ".join(cell.split("\n"))) for cell in cells), bold))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width = options.max_width
        everything = list(range(len(self.columns)))
        shown = self._fitting(everything, width)
        # A long path has a line of its own, with the rest below it, before the rest is left out for it.
        stacked = len(shown) < len(everything) and self._least(0) > width // 2 and not self.columns[0].folds
        if stacked:
            shown = self._fitting(everything[1:], width - GAP)
        widths = self._widths(shown, width - GAP if stacked else width)
        if self.title:
            yield Text(self.title, style="bold")
        if any(column.name for column in self.columns):
            heads = tuple(column.name for column in self.columns)
            if stacked:
                yield Text(heads[0], style="bold")
            yield from self._row(heads, shown, widths, stacked, bold=True, folded=True)
        above = ""
        for cells, bold in self.rows:
            if stacked and cells[0] != above:
                yield Text(cells[0], style="bold" if bold else "")
            above = cells[0]
            yield from self._row(cells, shown, widths, stacked, bold=bold)
        absent = [self.columns[index].name for index in everything[stacked:] if index not in shown]
        if absent:
            yield Text(f"(left out, the terminal is narrow: {', '.join(absent)}; --json has all)", style="dim")

    def _row(
        self,
        cells: Sequence[str],
        shown: Sequence[int],
        widths: dict[int, int],
        stacked: bool,
        *,
        bold: bool,
        folded: bool = False,
    ) -> Iterator[Text]:
        parts = {}
        for index in shown:
            breaks = folded or self.columns[index].folds
            parts[index] = _wrapped(cells[index], widths[index]) if breaks else [cells[index]]
        for number in range(max((len(lines) for lines in parts.values()), default=0)):
            line = []
            for index in shown:
                text = parts[index][number] if number < len(parts[index]) else ""
                padding = " " * max(0, widths[index] - cell_len(text))
                line.append(padding + text if self.columns[index].right else text + padding)
            shift = " " * GAP if stacked else ""
            yield Text(shift + (" " * GAP).join(line).rstrip(), style="bold" if bold else "")

    def _fitting(self, columns: Sequence[int], width: int) -> list[int]:
        """Those of `columns` (by index) that there is room for."""
        shown = list(columns)
        while sum(self._least(index) + GAP for index in shown) - GAP > width:
            droppable = [index for index in shown if self.columns[index].rank]
            if not droppable:
                break
            shown.remove(max(droppable, key=lambda index: (self.columns[index].rank, index)))
        return shown

    def _cells(self, index: int) -> int:
        return max((cell_len(cells[index]) for cells, _ in self.rows), default=0)

    def _least(self, index: int) -> int:
        """Cells that a column needs: its headline may be broken between words, its contents only where it folds."""
        column = self.columns[index]
        head = max((cell_len(word) for word in column.name.split()), default=0)
        while len(_wrapped(column.name, max(head, 1))) > HEAD_LINES:
            head += 1
        return max(head, min(self._cells(index), column.least) if column.folds else self._cells(index))

    def _widths(self, shown: Sequence[int], width: int) -> dict[int, int]:
        widths = {index: self._least(index) for index in shown}
        wanted = {index: max(self._cells(index), cell_len(self.columns[index].name)) for index in shown}
        spare = width - sum(widths.values()) - GAP * (len(shown) - 1)
        for index in sorted(shown, key=lambda index: self.columns[index].folds):  # headlines first
            more = max(0, min(spare, wanted[index] - widths[index]))
            widths[index] += more
            spare -= more
        return widths


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def facts(rows: Sequence[tuple[str, str]]) -> Table:
    """Names and what is said of them; long texts are folded."""
    table = Table(Column(""), Column("", folds=True))
    for name, value in rows:
        table.add(name, value)
    return table


def strong(text: str) -> Text:
    """A line to be seen first."""
    return Text(harmless(text), style="bold")
