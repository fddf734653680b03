"""The paper's tables as data: built from results, written as markdown and as CSV with the same digits."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from charreg.report.findings import Claim, paragraph
from charreg.report.published import COST, LR_SPACE, ROLES, ROWS, row_of
from charreg.report.results import Measure, Results, measure

SMALL_SAMPLE = 5000  # below this the kernel distance is the better guide (the Fréchet distance is biased upwards)
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
    """A table with its caption and the sentences generated under it."""

    name: str  # of its files
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    caption: str = ""
    findings: str = ""
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
    text = f"**{text}**" if mark == "best" else f"{text} ≈" if mark == "tie" else text
    if cell.interval:
        lo, hi = (_number(bound, column.digits) for bound in cell.interval)
        text += f"<br>[{lo}, {hi}]"
    return text


def to_markdown(table: Table) -> str:
    """The table, its caption, the reasons of absent numbers, the warnings on present ones and its findings."""
    notes: list[str] = []
    marked = [marks(table, column) for column in range(len(table.columns))]
    left = [any(isinstance(cells[column], str) for _, cells in table.rows) for column in range(len(table.columns))]
    lines = [f"### {table.title}", ""]
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
    if table.findings:
        lines += [table.findings, ""]
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
    """The table as CSV: `<key>_lo`, `<key>_hi` where a column has intervals, empty cells where it has no number."""
    with_interval = [
        any(isinstance(cells[at], Measure) and cells[at].interval for _, cells in table.rows)  # type: ignore[union-attr]
        for at in range(len(table.columns))
    ]
    header = [table.first.lower().replace(" ", "_")]
    for column, interval in zip(table.columns, with_interval, strict=True):
        header += [column.key, *((f"{column.key}_lo", f"{column.key}_hi") if interval else ())]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for label, cells in table.rows:
        line = [label]
        for cell, column, interval in zip(cells, table.columns, with_interval, strict=True):
            line += _csv_cells(cell, column, interval)
        writer.writerow(line)
    return out.getvalue()


def _csv_cells(cell: Cell, column: Column, interval: bool) -> list[str]:
    if not isinstance(cell, Measure):
        return [cell or "", *(("", "") if interval else ())]
    bounds = cell.interval or (None, None)
    numbers = [cell.value, *bounds] if interval else [cell.value]
    return ["" if number is None else f"{number:.{column.digits}f}" for number in numbers]


# --- the paper's tables ----------------------------------------------------------------------------------


def _reported(value: float | None) -> Measure | None:
    return None if value is None else Measure(value)


def _labels(methods: Iterable[str]) -> list[tuple[str, str]]:
    """(method, label) in the order of ROWS, which is the paper's."""
    wanted = [row_of(method).method for method in methods]
    return [(row.method, row.label) for row in ROWS if row.method in wanted]


def _small_sample(counts: Iterable[float | None]) -> str:
    known = [count for count in counts if count is not None]
    if not known or min(known) >= SMALL_SAMPLE:
        return ""
    return (
        f" Small sample ({min(known):.0f} faces at least, wanted {SMALL_SAMPLE:,}): the Fréchet distance is biased"
        " upwards, the kernel distance is the better guide; compare methods, not runs of another size."
    )


def _paper_column(key: str, head: str, comparable: bool, digits: int = 2) -> Column:
    remark = "reported, other faces" if comparable else "reported, not comparable"
    return Column(key, f"paper {head} ({remark})", digits)


def _distance_columns(kd: str, fd: str) -> tuple[Column, ...]:
    """Both distances and the number of faces of every genuine test set; `_distances` fills them."""
    return tuple(
        column
        for role, paper in ROLES.items()
        for column in (
            Column(f"{role}_{kd}", f"{role} (paper: {paper})<br>{kd} ×1000 ↓", 1, "lower"),
            Column(f"{role}_{fd}", f"{role}<br>{fd} ↓", 1, "lower"),
            Column(f"{role}_n", f"{role}<br>N"),
        )
    )


def _distances(results: Results, method: str, kd: str, fd: str) -> tuple[Measure, ...]:
    return tuple(results.measure(method, role, name) for role in ROLES for name in (kd, fd, "n_fake"))


def _fid_columns(comparable: bool) -> tuple[Column, ...]:
    """The paper's FID on both genuine test sets; `_reported_fid` fills them."""
    return tuple(_paper_column(f"paper_fid_{role}", f"FID {paper}", comparable) for role, paper in ROLES.items())


def _reported_fid(web: float | None, cctv: float | None) -> tuple[Cell, ...]:
    return _reported(web), _reported(cctv)


def distance_table(results: Results) -> Table:
    """Table 1: distance between super-resolved genuine faces and high-resolution training faces."""
    fd, kd, comparable = results.dialect.fd, results.dialect.kd, results.dialect.comparable
    columns = (*_distance_columns(kd, fd), Column("n_real", "N real"), *_fid_columns(comparable))
    rows = [
        (
            label,
            (
                *_distances(results, method, kd, fd),
                results.measure(method, next(iter(ROLES)), "n_real"),
                *_reported_fid(row_of(method).fid_web, row_of(method).fid_cctv),
            ),
        )
        for method, label in _labels(results.methods)
    ]
    counts = [results.measure(method, role, "n_fake").value for method in results.methods for role in ROLES]
    claims = [
        Claim(
            f"CR is nearer to real faces than {label}",
            role,
            name,
            results.measure("cr", role, name),
            results.measure(method, role, name),
        )
        for method, label in _labels(results.methods)
        for role in ROLES
        for name in (kd, fd)
        if "cr" in results.methods and method not in ("cr", "cr_stage1")  # cr_stage1: Table 6
    ]
    return Table(
        "table1_distance",
        "Table 1. Distance to real high-resolution faces",
        columns,
        tuple(rows),
        "N: super-resolved faces; N real: high-resolution training faces."
        + (" The paper's figures of CR, stage 1 are those of its Table 6." if "cr_stage1" in results.methods else "")
        + _small_sample(counts),
        paragraph(claims),
    )


def recognition_table(results: Results) -> Table:
    """Table 2: identification of super-resolved genuine faces, gallery and probes both super-resolved."""
    names = (
        ("rank1", "rank-1 % ↑", 2),
        ("rank1_std", "std over trials", 2),
        ("rank5", "rank-5 % ↑", 2),
        ("rank20", "rank-20 % ↑", 2),
        ("n_identities", "identities", 0),
        ("n_probes", "probes", 0),
    )
    roles = [
        role
        for role in ROLES
        if role == "web" or any(results.measure(method, role, "rank1").value is not None for method in results.methods)
    ]
    columns = [
        Column(
            f"{role}_{name}",
            f"{role} (paper: {ROLES[role]})<br>{head}" if name == "rank1" else f"{role}<br>{head}",
            digits,
            "higher" if name in ("rank1", "rank5", "rank20") else "",
        )
        for role in roles
        for name, head, digits in names
    ]
    columns.append(_paper_column("paper_rank1", "rank-1 %", False))
    rows = [
        (
            "Bicubic (raw LR)" if method == "bicubic" else label,
            (
                *(results.measure(method, role, name) for role in roles for name, *_ in names),
                _reported(row_of(method).rank1),
            ),
        )
        for method, label in _labels(results.methods)
    ]
    claims = [
        Claim(
            f"CR is recognised better than {'raw LR' if method == 'bicubic' else label}",
            role,
            "rank-1",
            results.measure(method, role, "rank1"),
            results.measure("cr", role, "rank1"),
        )
        for method, label in _labels(results.methods)
        for role in roles
        if "cr" in results.methods and method not in ("cr", "cr_stage1")
    ]
    return Table(
        "table2_recognition",
        "Table 2. Recognition of super-resolved faces",
        tuple(columns),
        tuple(rows),
        "CentreFace, gallery and probe faces both super-resolved; mean over the trials." + _chance(results, roles),
        paragraph(claims),
    )


def _chance(results: Results, roles: Sequence[str]) -> str:
    people = {role: results.measure(results.methods[0], role, "n_identities").value for role in roles}
    chances = [f"{role} {100 / count:.1f}" for role, count in people.items() if count]
    return f" Guessing gives a rank-1 of: {', '.join(chances)} %." if chances else ""


def fidelity_table(results: Results) -> Table:
    """Table 3: fidelity on artificial low-resolution faces, whose truth is known."""
    names = (("psnr_rgb", "PSNR dB ↑", 2), ("ssim_rgb", "SSIM ↑", 4), ("psnr_y", "PSNR-Y dB ↑", 2))
    columns = [Column(name, head, digits, "higher") for name, head, digits in names]
    columns += [
        Column("n_images", "N"),
        _paper_column("paper_psnr", "PSNR Helen", False),
        _paper_column("paper_ssim", "SSIM Helen", False, 4),
    ]
    rows = []
    for method, label in _labels(results.methods):
        row = row_of(method)
        measures = (results.measure(method, "hr_test", name) for name in ("psnr_rgb", "ssim_rgb", "psnr_y", "n_images"))
        rows.append((label, (*measures, _reported(row.psnr), _reported(row.ssim))))
    claims = [
        Claim(
            "joint training costs no fidelity: CR above SR alone",
            "HR test",
            "PSNR" if name == "psnr_rgb" else "SSIM",
            results.measure("sr_module", "hr_test", name),
            results.measure("cr", "hr_test", name),
        )
        for name in ("psnr_rgb", "ssim_rgb")
        if {"cr", "sr_module"} <= set(results.methods)
    ]
    return Table(
        "table3_fidelity",
        "Table 3. Fidelity on artificial low-resolution faces (HR test; paper: Helen)",
        tuple(columns),
        tuple(rows),
        "Artificial faces skip the regulariser, so CR, stage 1 is SR alone here. RGB on 8 bits; Y is BT.601 luma."
        " All methods see the same faces, so the intervals are wider than those of a paired difference.",
        paragraph(claims),
    )


def _floor_caption(results: Results, kd: str, fd: str) -> str:
    """What the floor is, what of the genuine distance is not the camera's doing, and how often it holds the floor."""
    halves = [results.measure("genuine", "artificial", name).value for name in ("n_real", "n_fake")]
    counts = " against ".join("?" if count is None else f"{count:,.0f}" for count in halves)
    ratios = []
    for name in (kd, fd):
        floor = results.measure("genuine", "artificial", name).value
        if floor is not None and floor > 0:
            genuine = {role: results.measure("genuine", role, name).value for role in ROLES}
            found = [f"{role} {value / floor:.1f}" for role, value in genuine.items() if value is not None]
            ratios += [f"{', '.join(found)} by {name}"] if found else []
        else:
            ratios.append(f"none by {name}, whose floor is {'not measured' if floor is None else 'not above 0'}")
    return (
        f"The floor is the distance between the two halves of the artificial faces ({counts}), which may show the same"
        " people; the genuine faces show others, and all these sets are small. So a part of the genuine distance is"
        f" other people and small N, not the camera. Genuine / floor: {'; '.join(ratios)}."
    )


LR_ROWS = (
    ("genuine", "Genuine LR"),
    ("cr_stage1", "Regulated LR, stage 1"),
    ("cr", "Regulated LR, stage 2"),
)


def lr_space_table(results: Results) -> Table:
    """Table 5: distance between low-resolution faces, genuine or regulated, and artificial ones."""
    fd, kd = f"lr_{results.dialect.fd}", f"lr_{results.dialect.kd}"
    columns = (*_distance_columns(kd, fd), *_fid_columns(results.dialect.comparable))
    declared = [(method, label) for method, label in LR_ROWS if method in ("genuine", *results.methods)]
    rows: list[tuple[str, tuple[Cell, ...]]] = [
        (label, (*_distances(results, method, kd, fd), *_reported_fid(*LR_SPACE.get(method, (None, None)))))
        for method, label in declared
    ]
    floor = [results.measure("genuine", "artificial", name) for name in (kd, fd, "n_fake")]
    rows.append(("Artificial LR (floor)", (*floor, *floor, None, None)))
    claims = [
        Claim(
            f"{label[0].lower()}{label[1:]} is nearer to artificial LR than genuine LR is",
            role,
            name,
            results.measure(method, role, name),
            results.measure("genuine", role, name),
        )
        for method, label in declared[1:]
        for role in ROLES
        for name in (kd, fd)
    ]
    counts = [results.measure(method, role, "n_fake").value for method, _ in declared for role in ROLES]
    return Table(
        "table5_lr_space",
        "Table 5. Distance to artificial low-resolution faces, at 16x16",
        columns,
        tuple(rows),
        _floor_caption(results, kd, fd) + _small_sample(counts),
        paragraph(claims),
        frozenset({"Artificial LR (floor)"}),
        "Faces",
    )


def ablation_table(results: Results) -> Table:
    """Table 6: without and with the fine-tuning of the super-resolver on regulated faces (stage 2)."""
    fd, kd, comparable = results.dialect.fd, results.dialect.kd, results.dialect.comparable
    variants = [
        (method, label)
        for method, label in (("cr_stage1", "Without stage 2 (W/O SR-RI)"), ("cr", "With stage 2 (CR)"))
        if method in results.methods
    ]
    rows = [
        (
            label,
            (
                *_distances(results, method, kd, fd),
                *_reported_fid(row_of(method).fid_web, row_of(method).fid_cctv),
            ),
        )
        for method, label in variants
    ]
    claims = [
        Claim(
            "stage 2 brings the faces nearer to real ones",
            role,
            name,
            results.measure("cr", role, name),
            results.measure("cr_stage1", role, name),
        )
        for role in ROLES
        for name in (kd, fd)
        if len(variants) == 2
    ]
    return Table(
        "table6_stage2",
        "Table 6. Fine-tuning the super-resolver on regulated faces",
        (*_distance_columns(kd, fd), *_fid_columns(comparable)),
        tuple(rows),
        findings=paragraph(claims),
        first="Variant",
    )


# --- cost ------------------------------------------------------------------------------------------------

COUNTINGS = {
    "deployed_genuine": "deployed, genuine input (super-resolver + regulariser)",
    "deployed_artificial": "deployed, artificial input (super-resolver)",
    "stage_2_system": "stage-2 system (+ inverse regulariser, LR and feature discriminators)",
    "plus_inverse_discriminator": "plus the discriminator of the inverse regulariser",
    "plus_image_discriminator": "plus the image discriminator of SR pretraining",
}


def parameter_table(results: Results) -> Table:
    """Every counting of "model parameters", at the run's widths and at the paper's."""
    run, paper = (results.complexity[name] for name in ("run", "paper"))
    rows = [
        (
            label,
            (
                Measure(run["parameters"][name]),
                Measure(paper["parameters"][name]),
                Measure(COST["parameters"]) if name == "stage_2_system" else None,
            ),
        )
        for name, label in COUNTINGS.items()
    ]
    return Table(
        "complexity_parameters",
        "Parameters",
        (
            Column("run", f"this run (width {run['width']})"),
            Column("paper_width", f"at the paper's width ({paper['width']})"),
            Column("paper_reported", "paper (reported)"),
        ),
        tuple(rows),
        "The paper prints 2.7 M without saying what it counts; the stage-2 system is the reading that gives it.",
        first="Networks counted",
    )


def inference_table(results: Results) -> Table:
    """Milliseconds of one image and of a batch."""
    complexity = results.complexity
    rows = []
    for name, label in (("run", "this run's widths"), ("paper", "the paper's width")):
        times = complexity[name]["milliseconds"]
        for kind in ("genuine", "artificial"):
            single, batch = times[f"{kind}_single"], times[f"{kind}_batch"]
            reported = Measure(COST["milliseconds"]) if (name, kind) == ("paper", "genuine") else None
            rows.append(
                (
                    f"{kind} input, {label}",
                    (Measure(single), Measure(batch), Measure(batch / complexity["batch"]), reported),
                )
            )
    return Table(
        "complexity_inference",
        "Inference",
        (
            Column("ms_single", "ms, one image", 2),
            Column("ms_batch", f"ms, batch of {complexity['batch']}", 1),
            Column("ms_per_image", "ms per image of the batch", 2),
            Column("paper_ms", "paper, Tesla P100 (reported)", 1),
        ),
        tuple(rows),
        f"Median of {complexity['repeats']} runs on {complexity['device']}. {_machine(complexity)}.",
        first="Path",
    )


def training_table(results: Results, jobs: Sequence[str]) -> Table:
    """Seconds and peak memory of every training job."""
    rows = []
    for job in jobs:
        timing = results.timings.get(job, {})
        where = f"timings of {job}: the training has not run here"
        measures = [
            Measure(None, reason=where) if not timing else measure(timing, name, {}, f"the timings of {job}")
            for name in ("iterations", "seconds", "peak_memory_mib")
        ]
        rows.append((f"`{job}`", tuple(measures)))
    total = [float(timing["seconds"]) for timing in results.timings.values() if "seconds" in timing]
    caption = f"Together {sum(total) / 3600:.2f} h" if total else "No training time is known"
    caption += f" (paper: {COST['training_hours']:.0f} h on one Tesla P100, other budgets)."
    caption += "".join(f" {text}." for text in sorted({_machine(timing) for timing in results.timings.values()}))
    return Table(
        "complexity_training",
        "Training",
        (
            Column("iterations", "iterations"),
            Column("seconds", "seconds", 1),
            Column("peak_memory_mib", "peak memory, MiB"),
        ),
        tuple(rows),
        caption,
        first="Job",
    )


def _machine(numbers: Mapping[str, Any]) -> str:
    """Where a time was measured, from a timings file or complexity.json."""
    machine, versions = numbers.get("machine", {}), numbers.get("versions", {})
    units = (("cores", "core"), ("threads", "thread"))
    parts = [str(machine.get("cpu", "unknown processor"))]
    parts += [f"{machine[name]} {noun}{'s' * (machine[name] != 1)}" for name, noun in units if name in machine]
    return "Machine: " + ", ".join([*parts, *(f"{name} {version}" for name, version in versions.items())])
