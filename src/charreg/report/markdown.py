"""The whole report: its tables, pictures and generated sentences, put together as markdown and CSV files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from charreg.faces import open_faces
from charreg.files import output_folder, write_bytes
from charreg.params import Params
from charreg.report import tables
from charreg.report.figures import Folders, draw_curves, draw_faces
from charreg.report.published import PAPER_SETS, ROWS, row_of
from charreg.report.results import Measure, Results, measure, read_results
from charreg.report.settings import departures, stabilisers
from charreg.report.tables import Column, Table

FIRST_JOBS = ("centreface", "sr_module", "inverse_cr", "characteristic")


@dataclass(frozen=True)
class Inputs:
    """Where a report finds what the stages wrote."""

    metrics: Path
    timings: Path
    complexity: Path
    training: Path
    paper: Path  # the profile with the paper's setting
    faces: Folders


def write_report(inputs: Inputs, params: Params, out: Path) -> None:
    """Write `report.md`, `tables/` and `pictures/` into `out`; only declared methods appear.

    Raises CharregError naming what is missing: the metrics of a declared method, a face set, a measurement.
    """
    methods = [row.method for row in ROWS if row.method in {row_of(method).method for method in params.methods}]
    jobs = (*FIRST_JOBS, *params.joint_variants)
    results = read_results(
        metrics=inputs.metrics,
        timings=inputs.timings,
        complexity=inputs.complexity,
        methods=methods,
        jobs=jobs,
        features=params.evaluate.features,
    )
    paper_tables = {
        name: make(results)
        for name, make in (
            *(("1", tables.distance_table), ("2", tables.recognition_table), ("3", tables.fidelity_table)),
            *(("5", tables.lr_space_table), ("6", tables.ablation_table)),
            *(("parameters", tables.parameter_table), ("inference", tables.inference_table)),
        )
        if name != "6" or {"cr_stage1", "cr"} & set(methods)
    }
    paper_tables |= {
        "training": tables.training_table(results, jobs),
        "data": data_table(params, inputs.faces),
        "settings": departures(params, inputs.paper),
        "detection": detection_table(results),
        "geometry": geometry_table(results, params.geometry.max_shift),
        "recogniser": gate_table(results),
    }
    with output_folder(out / "tables") as folder:
        for table in paper_tables.values():
            write_bytes(folder / f"{table.name}.md", tables.to_markdown(table).encode())
            write_bytes(folder / f"{table.name}.csv", tables.to_csv(table).encode())
    with output_folder(out / "pictures") as folder:
        simulated = {str(role): source.simulated for role, source in params.lr_roles.items()}
        captions = draw_faces(folder, inputs.faces, methods, params.report.faces, params.seed, simulated)
        captions |= draw_curves(folder, inputs.training, jobs)
    if (out / "figures" / "geometry.png").is_file():
        captions["../figures/geometry.png"] = "Mean artificial and mean genuine face"
    text = assemble(params, results, paper_tables, captions)
    write_bytes(out / "report.md", text.encode())


def data_table(params: Params, folders: Folders) -> Table:
    """What fills each role: source, kind of photographs, faces, people."""
    rows: list[tuple[str, tuple[tables.Cell, ...]]] = []
    for kind, base, roles in (("hr", folders.hr, params.hr_roles), ("lr", folders.lr, params.lr_roles)):
        for role, source in roles.items():
            faces = open_faces(base / role)
            people = len({name for name in faces.identities if name})
            photos = len(set(faces.index["photo"]))
            rows.append(
                (
                    f"{kind.upper()} {role}",
                    (
                        PAPER_SETS[kind, role],
                        f"{source.source}, `{source.path}`",
                        "simulated camera" if source.simulated else _nature(kind),
                        *(Measure(count) for count in (len(faces), photos)),
                        Measure(people) if people else Measure(None, reason=f"{kind.upper()} {role} names nobody"),
                    ),
                )
            )
    columns = (
        *(Column("paper", "in the paper"), Column("source", "source"), Column("kind", "faces are")),
        *(Column("faces", "N faces"), Column("photos", "photographs"), Column("identities", "people")),
    )
    return Table("data", "Data", columns, tuple(rows), first="Role")


def _nature(kind: str) -> str:
    return "portraits" if kind == "hr" else "genuine photographs"


def detection_table(results: Results) -> Table:
    """Recall, precision and size of the faces detected in the photographs of each genuine set."""
    names = (
        *(("n_photos", "photographs", 0), ("n_faces", "faces", 0), ("recall", "recall", 3)),
        *(("precision", "precision", 3), ("mean_side", "mean side, px", 1)),
    )
    rows = tuple(
        (
            role,
            tuple(measure(numbers, name, {}, f"detection_{role}.json") for name, *_ in names),
        )
        for role, numbers in results.detection.items()
    )
    columns = tuple(Column(name, head, digits) for name, head, digits in names)
    return Table("detection", "Detection of the small faces", columns, rows, first="Role")


def geometry_table(results: Results, max_shift: float) -> Table:
    """Mean eyes of artificial and genuine faces: the regulariser must not learn to zoom or shift."""
    numbers = results.geometry
    heads = (
        *(("left_eye_x", "left eye x"), ("left_eye_y", "left eye y"), ("right_eye_x", "right eye x")),
        *(("right_eye_y", "right eye y"), ("eye_distance", "eye distance")),
    )
    rows = tuple(
        (
            f"{kind.capitalize()} LR",
            tuple(
                measure(numbers, name, {}, "geometry.json")
                for name in (*(f"{kind}_{name}" for name, _ in heads), f"n_{kind}")
            ),
        )
        for kind in ("artificial", "genuine")
    )
    worst = measure(numbers, "worst_shift", {}, "geometry.json")
    found = "unknown" if worst.value is None else f"{worst.value:.2f} px"
    return Table(
        "geometry",
        "Geometry of artificial and genuine faces, px at 16x16",
        (*(Column(name, head, 2) for name, head in heads), Column("n", "N")),
        rows,
        f"Largest difference {found}, wanted at most {max_shift:g} px; the training of the inverse waits for it.",
        first="Faces",
    )


def gate_table(results: Results) -> Table:
    """How well the recogniser tells people apart whom it has not seen."""
    names = (
        *(("rank1", "rank-1 %", 2), ("rank1_std", "std over trials", 2), ("auc", "verification AUC", 4)),
        *(("n_identities", "people", 0), ("n_probes", "probes", 0), ("n_pairs", "pairs", 0)),
    )
    cells = tuple(measure(results.centreface, name, {}, "centreface.json") for name, *_ in names)
    return Table(
        "recogniser",
        "The recogniser on high-resolution faces it was not trained on",
        tuple(Column(name, head, digits) for name, head, digits in names),
        (("CentreFace", cells),),
        "HR against HR: Table 2 is to be read against this.",
        first="Network",
    )


def opening(params: Params, results: Results) -> str:
    """The first lines: what the run ran on, so that no number is read without it."""
    simulated = [role for role, source in params.lr_roles.items() if source.simulated]
    genuine = [role for role in params.lr_roles if role not in simulated]
    lines = []
    if simulated:
        lines.append(
            f"> **Simulated camera:** the low-resolution faces of {_and(simulated)} were detected in photographs this"
            " pipeline composed of portraits; they are not photographs of a scene."
        )
    if genuine:
        lines.append(f"> **Genuine photographs:** the low-resolution faces of {_and(genuine)}.")
    dialect = results.dialect
    lines.append(
        f"> **Distances:** `{dialect.fd}` (Fréchet) and `{dialect.kd}` (kernel) on {dialect.features}"
        + (
            "; with this network the Fréchet distance is the FID of the literature."
            if dialect.comparable
            else ". They are not FID: compare rows, never with the paper's columns."
        )
    )
    stages = ", ".join(f"{job} {timing['iterations']:,}" for job, timing in results.timings.items())
    lines.append(
        f"> **Seed:** {params.seed}, one run. **Iterations:** {stages or 'unknown, nothing was trained here'}."
    )
    return "\n>\n".join(lines)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


HOW_TO_READ = """**Bold**: best value of a column. **≈**: its 95% interval [lo, hi] overlaps that of the best, so the
order is open. **—**: not measured, for the reason given under the table. Blank: not in the paper. The sentences under
the tables are computed from the intervals: disjoint ones confirm or contradict the paper, overlapping ones cannot
tell."""


def assemble(params: Params, results: Results, found: Mapping[str, Table], captions: Mapping[str, str]) -> str:
    """The text of report.md."""

    def table(name: str) -> str:
        return tables.to_markdown(found[name])

    def picture(name: str) -> str:
        return (
            f"![{captions[name].partition(':')[0]}](pictures/{name})\n\n*{captions[name]}*\n"
            if name in captions
            else ""
        )

    rows = [f"- **{row_of(method).label}** (`{method}`): {row_of(method).meaning}" for method in results.methods]
    on = stabilisers(params)
    parts = [
        f"# {params.report.title}",
        opening(params, results),
        table("data"),
        picture("figure3_genuine.png"),
        "## Results",
        HOW_TO_READ,
        "\n".join(rows),
        table("1"),
        *(picture(name) for name in ("methods_web.png", "methods_cctv.png")),
        table("2"),
        table("3"),
        picture("methods_hr_test.png"),
        table("5"),
        picture("figure5_triplets.png"),
        table("6") if "6" in found else "",
        "## Cost",
        *(table(name) for name in ("parameters", "inference", "training")),
        "## Setting and checks",
        f"Beyond the paper, switched on: {'; '.join(on) or 'nothing'}.",
        table("settings"),
        table("detection"),
        table("geometry"),
        picture("../figures/geometry.png"),
        table("recogniser"),
        picture("training.png"),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"
