"""A table as data: rows of measures, written as markdown and as CSV with the same digits."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from charreg.report.results import Measure
from charreg.report.verdicts import Claim, paragraph

Cell = Measure | str | None  # None: nothing to say there, printed blank


@dataclass(frozen=True)
class Column:
    """A column: `key` heads it in the CSV file, `head` in markdown; `cell` gives a row's cell by the row's key."""

    key: str
    head: str
    cell: Callable[[str], Cell]
    digits: int = 0
    better: str = ""  # lower or higher; empty: no value is marked


@dataclass(frozen=True)
class Table:
    """A table with its caption and what is judged under it."""

    name: str  # of its files
    title: str  # empty: printed without a heading
    first: str  # head of the labels
    rows: Mapping[str, str]  # their labels, by key
    columns: Sequence[Column]
    caption: str = ""
    claims: Sequence[Claim] | None = None  # judged under the table; None: nothing there is to be judged
    remark: str = ""  # the last sentences
    reference: str = ""  # the row that does not compete

    @cached_property
    def cells(self) -> list[list[Cell]]:
        """The cells of every column, top to bottom."""
        return [[column.cell(key) for key in self.rows] for column in self.columns]


def marks(table: Table, column: int) -> list[Literal["", "best", "tie"]]:
    """For every row: `best`, `tie` where its interval overlaps that of the best value, or nothing.

    Values that print alike are equally good.
    """
    better, digits = table.columns[column].better, table.columns[column].digits
    found: list[Literal["", "best", "tie"]] = ["" for _ in table.rows]
    competing = {
        row: (round(cell.value, digits), cell)
        for row, (key, cell) in enumerate(zip(table.rows, table.cells[column], strict=True))
        if isinstance(cell, Measure) and cell.value is not None and key != table.reference
    }
    if not better or len(competing) < 2:
        return found
    best, winner = (min if better == "lower" else max)(competing.values(), key=lambda one: one[0])
    for row, (printed, cell) in competing.items():
        if printed == best:
            found[row] = "best"
        elif cell.interval and winner.interval:
            apart = cell.interval[0] > winner.interval[1] or cell.interval[1] < winner.interval[0]
            found[row] = "" if apart else "tie"
    return found


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _printed(cell: Cell, column: Column, mark: str, notes: list[str]) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if cell.value is None:
        if cell.reason not in notes:
            notes.append(cell.reason)
        return f"—<sup>{notes.index(cell.reason) + 1}</sup>"
    text = _number(cell.value, column.digits)
    text = f"**{text}**" if mark == "best" else text
    if cell.spread is not None:
        text += f" ± {_number(cell.spread, column.digits)}"
    text += " ≈" if mark == "tie" else ""
    if cell.interval:
        lo, hi = (_number(bound, column.digits) for bound in cell.interval)
        text += f"<br>[{lo}, {hi}]"
    return text


def to_markdown(table: Table) -> str:
    """The table, its caption, the reasons of absent numbers, the warnings on present ones and its verdicts."""
    notes: list[str] = []
    marked = [marks(table, column) for column in range(len(table.columns))]
    lines = [f"### {table.title}", ""] if table.title else []
    lines.append("| " + " | ".join([table.first, *(column.head for column in table.columns)]) + " |")
    left = [any(isinstance(cell, str) for cell in cells) for cells in table.cells]
    lines.append("|" + "|".join([":--", *(":--" if side else "--:" for side in left)]) + "|")
    for row, label in enumerate(table.rows.values()):
        printed = [
            _printed(cells[row], column, mark[row], notes)
            for cells, column, mark in zip(table.cells, table.columns, marked, strict=True)
        ]
        lines.append("| " + " | ".join([label, *printed]) + " |")
    under = (
        table.caption,
        "; ".join(f"<sup>{at}</sup> {note}" for at, note in enumerate(notes, 1)) + "." if notes else "",
        _warnings(table),
        "" if table.claims is None else paragraph(table.claims),
        table.remark,
    )
    return "\n".join([*lines, "", *(line for text in under if text for line in (text, ""))])


def _warnings(table: Table) -> str:
    """The warnings on the numbers of a table, each with the columns (as in the CSV file) it is about."""
    keys: dict[str, dict[str, None]] = {}
    for column, cells in zip(table.columns, table.cells, strict=True):
        for cell in cells:
            if isinstance(cell, Measure) and cell.warning:
                keys.setdefault(cell.warning, {})[f"`{column.key}`"] = None
    warnings = "; ".join(f"{' and '.join(names)}: {text}" for text, names in keys.items())
    return f"Beware: {warnings}." if keys else ""


def to_csv(table: Table) -> str:
    """The table as CSV, empty cells where it has no number.

    Where a column has spreads over seeds or intervals, `<key>_seeds` or `<key>_lo` and `<key>_hi` follow it.
    """
    columns = [[table.first.lower().replace(" ", "_"), *table.rows.values()]]
    for column, cells in zip(table.columns, table.cells, strict=True):
        for end, part in (("", "value"), ("_seeds", "spread"), ("_lo", "lo"), ("_hi", "hi")):
            numbers = [getattr(cell, part) if isinstance(cell, Measure) else None for cell in cells]
            texts = ["" if number is None else f"{number:.{column.digits}f}" for number in numbers]
            if not end:
                texts = [cell if isinstance(cell, str) else text for cell, text in zip(cells, texts, strict=True)]
            if any(texts) or not end:
                columns.append([column.key + end, *texts])
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(zip(*columns, strict=True))
    return out.getvalue()
