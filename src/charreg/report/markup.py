"""A table as data: rows of measures, written as markdown and as CSV with the same digits."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from charreg.report.results import Measure
from charreg.report.verdicts import Claim, paragraph

Cell = Measure | str | None  # None: nothing to say there, printed blank


@dataclass(frozen=True)
class Column:
    """A column: `key` heads it in the CSV file, `head` in markdown."""

    key: str
    head: str
    digits: int = 0
    better: Literal["lower", "higher", ""] = ""  # "": no value is marked


@dataclass(frozen=True)
class Table:
    """A table with its caption and what is judged under it."""

    name: str  # of its files
    title: str  # empty: printed without a heading
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    caption: str = ""
    claims: tuple[Claim, ...] | None = None  # judged under the table; None: nothing there is to be judged
    remark: str = ""  # the last sentences
    references: frozenset[str] = field(default_factory=frozenset)  # labels of rows that do not compete
    first: str = "Method"


def marks(table: Table, column: int) -> list[Literal["", "best", "tie"]]:
    """For every row: `best`, `tie` where its interval overlaps that of the best value, or nothing.

    Values that print alike are equally good.
    """
    better = table.columns[column].better
    cells = [cells[column] for _, cells in table.rows]
    competing = {
        row: cell
        for row, cell in enumerate(cells)
        if isinstance(cell, Measure) and cell.value is not None and table.rows[row][0] not in table.references
    }
    if not better or len(competing) < 2:
        return [""] * len(cells)
    printed = {row: round(cell.value or 0.0, table.columns[column].digits) for row, cell in competing.items()}
    best = (min if better == "lower" else max)(printed.values())
    winner = next(cell for row, cell in competing.items() if printed[row] == best)
    found: list[Literal["", "best", "tie"]] = [""] * len(cells)
    for row, cell in competing.items():
        if printed[row] == best:
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
    left = [any(isinstance(cells[column], str) for _, cells in table.rows) for column in range(len(table.columns))]
    lines = [f"### {table.title}", ""] if table.title else []
    lines.append("| " + " | ".join([table.first, *(column.head for column in table.columns)]) + " |")
    lines.append("|" + "|".join([":--", *(":--" if side else "--:" for side in left)]) + "|")
    for row, (label, cells) in enumerate(table.rows):
        printed = [
            _printed(cell, column, marked[at][row], notes)
            for at, (cell, column) in enumerate(zip(cells, table.columns, strict=True))
        ]
        lines.append("| " + " | ".join([label, *printed]) + " |")
    lines.append("")
    if table.caption:
        lines += [table.caption, ""]
    if notes:
        lines += ["; ".join(f"<sup>{at}</sup> {note}" for at, note in enumerate(notes, 1)) + ".", ""]
    if warnings := _warnings(table):
        lines += [f"Beware: {warnings}.", ""]
    if table.claims is not None:
        lines += [paragraph(table.claims), ""]
    if table.remark:
        lines += [table.remark, ""]
    return "\n".join(lines)


def _warnings(table: Table) -> str:
    """The warnings on the numbers of a table, each with the columns (as in the CSV file) it is about."""
    columns: dict[str, list[str]] = {}
    for _, cells in table.rows:
        for cell, column in zip(cells, table.columns, strict=True):
            if isinstance(cell, Measure) and cell.warning:
                keys = columns.setdefault(cell.warning, [])
                keys += [column.key] if column.key not in keys else []
    return "; ".join(f"{' and '.join(f'`{key}`' for key in keys)}: {text}" for text, keys in columns.items())


def to_csv(table: Table) -> str:
    """The table as CSV, empty cells where it has no number.

    Where a column has spreads over seeds or intervals, `<key>_seeds` or `<key>_lo` and `<key>_hi` follow it.
    """
    extras = [_extras([cells[at] for _, cells in table.rows]) for at in range(len(table.columns))]
    header = [table.first.lower().replace(" ", "_")]
    for column, names in zip(table.columns, extras, strict=True):
        header += [column.key, *(f"{column.key}_{name}" for name in names)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for label, cells in table.rows:
        line = [label]
        for cell, column, names in zip(cells, table.columns, extras, strict=True):
            line += _csv_cells(cell, column, names)
        writer.writerow(line)
    return out.getvalue()


def _extras(cells: Sequence[Cell]) -> list[str]:
    """What the cells of a column hold beside their values."""
    measures = [cell for cell in cells if isinstance(cell, Measure)]
    spread = any(cell.spread is not None for cell in measures)
    interval = any(cell.interval for cell in measures)
    return [*(["seeds"] if spread else []), *(["lo", "hi"] if interval else [])]


def _csv_cells(cell: Cell, column: Column, extras: Sequence[str]) -> list[str]:
    if not isinstance(cell, Measure):
        return [cell or "", *("" for _ in extras)]
    numbers = {"seeds": cell.spread, "lo": cell.lo, "hi": cell.hi}
    found = [cell.value, *(numbers[name] for name in extras)]
    return ["" if number is None else f"{number:.{column.digits}f}" for number in found]
