"""The whole report: its tables, pictures and generated sentences, put together as markdown and CSV files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from charreg.core.files import output_folder, write_bytes
from charreg.core.params import Params
from charreg.report import costs, tables
from charreg.report.datasets import Role, data_lines, detection_table, read_roles, rejection_table, size_table
from charreg.report.figures import Folders, draw_faces
from charreg.report.markup import Column, Table, to_csv, to_markdown
from charreg.report.plots import draw_curves, write_plots
from charreg.report.published import ROLES, in_order
from charreg.report.results import Results, measure, read_results
from charreg.report.settings import departures
from charreg.report.verdicts import listed, tally

SMALL_SAMPLE = 5000  # faces; below this the kernel distance is the better guide
FIRST_JOBS = ("centreface", "matcher", "sr_module", "inverse_cr", "characteristic")


@dataclass(frozen=True)
class ReportInputs:
    """Where a report finds what the stages wrote."""

    scores: Path
    complexity: Path
    training: Path
    paper: Path  # the profile with the paper's setting
    faces: Folders


def write_report(inputs: ReportInputs, params: Params, out: Path) -> None:
    """Write `report.md`, `tables/`, `pictures/` and `plots/` into `out`; only declared methods appear.

    Raises CharregError naming what is missing: the metrics of a declared method, a face set, a measurement.
    """
    methods = in_order(params.methods)
    peers = [method for method in methods if method in params.peers]
    own = [*FIRST_JOBS, *(method for method in methods if method in params.joint_variants)]
    jobs = [*FIRST_JOBS, *peers, *own[len(FIRST_JOBS) :]]
    results = read_results(
        scores=inputs.scores,
        training=inputs.training,
        complexity=inputs.complexity,
        methods=methods,
        jobs=jobs,
        features=params.evaluate.features,
    )
    roles = read_roles(params, inputs.faces)
    simulated = {str(role): source.simulated for role, source in params.lr_roles.items()}
    made: dict[str, Table | None] = {
        "summary": tables.summary_table(results, simulated),
        "1": tables.distance_table(results),
        "2": tables.recognition_table(results),
        "3": tables.fidelity_table(results),
        "5": tables.lr_space_table(results),
        **{number: tables.ablation_table(results, number, params.finetune_joint) for number in tables.ABLATIONS},
        "systems": costs.systems_table(results),
        "training": costs.training_table(results, jobs, params),
        "settings": departures(params, inputs.paper),
        "detection": detection_table(results),
        "sizes": size_table(roles),
        "rejections": rejection_table(roles),
        "geometry": geometry_table(results, params.geometry.max_shift),
        "recogniser": gate_table(results),
    }
    found = {name: table for name, table in made.items() if table is not None and table.rows}
    with output_folder(out / "tables") as folder:
        for table in found.values():
            write_bytes(folder / f"{table.name}.md", to_markdown(table).encode())
            write_bytes(folder / f"{table.name}.csv", to_csv(table).encode())
    with output_folder(out / "pictures") as folder:
        labels = {row.method: row.label for row in results.rows}
        captions = draw_faces(folder, inputs.faces, labels, params.report.faces, params.seed, simulated)
        for name, words, drawn in (
            ("training", "of CR's trainings", own),
            ("training_peers", "of the other systems' trainings", peers),
        ):
            caption = f"Losses and health signals {words}, by step{_which_seed(params)}"
            captions |= draw_curves(folder, inputs.training, drawn, f"{name}.png", caption)
    with output_folder(out / "plots") as folder:
        write_plots(inputs.training, jobs, folder)
    captions = {f"pictures/{name}": caption for name, caption in captions.items()}
    if (out / "figures" / "geometry.png").is_file():
        captions["figures/geometry.png"] = (
            "Mean artificial face (left) and mean genuine face (right): 16x16 pixels, with the mean eyes as yellow"
            " (artificial) and cyan (genuine) circles"
        )
    text = assemble(params, results, roles, found, captions)
    write_bytes(out / "report.md", text.encode())


def _which_seed(params: Params) -> str:
    return f" (seed {params.seeds[0]})" if len(params.seeds) > 1 else ""


def geometry_table(results: Results, max_shift: float) -> Table:
    """Mean eyes of artificial and genuine faces: the regulariser must not learn to zoom or shift."""
    numbers = results.geometry
    names = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y", "eye_distance")
    rows = tuple(
        (
            f"{kind.capitalize()} LR",
            tuple(
                measure(numbers, name, {}, "geometry.json")
                for name in (*(f"{kind}_{name}" for name in names), f"n_{kind}")
            ),
        )
        for kind in ("artificial", "genuine")
    )
    worst = measure(numbers, "worst_shift", {}, "geometry.json")
    found = f"unknown ({worst.reason})" if worst.value is None else f"{worst.value:.2f} px"
    return Table(
        "geometry",
        "Geometry of artificial and genuine faces, px at 16x16",
        (*(Column(name, name.replace("_", " "), 2) for name in names), Column("n", "N")),
        rows,
        f"Largest difference: {found}; the inverse regulariser is trained only when it is at most {max_shift:g} px.",
        first="Faces",
    )


def gate_table(results: Results) -> Table:
    """How well the matcher tells people apart whom it has not seen."""
    names = (
        ("rank1", "rank-1 %", 2),
        ("rank1_std", "std over trials", 2),
        ("auc", "verification AUC", 4),
        ("n_identities", "people", 0),
        ("n_probes", "probes", 0),
        ("n_pairs", "pairs", 0),
    )
    cells = tuple(measure(results.matcher, name, {}, "matcher.json") for name, *_ in names)
    return Table(
        "recogniser",
        "The matcher on high-resolution faces it was not trained on",
        tuple(Column(name, head, digits) for name, head, digits in names),
        (("CentreFace", cells),),
        "High-resolution against high-resolution faces: what Table 2 is to be read against. The matcher only measures;"
        " the losses use another CentreFace.",
        first="Network",
    )


def opening(params: Params, results: Results) -> str:
    """How the distances are called, the seeds and the length of the trainings: under the lines on the data."""
    dialect = results.dialect
    distances = f"> **Distances:** `{dialect.fd}` (Fréchet) and `{dialect.kd}` (kernel) on {dialect.features}" + (
        "; with this network the Fréchet distance is the FID of the literature."
        if dialect.comparable
        else ". They are not FID: compare them with each other, never with the paper's columns."
    )
    counts = [results.measure(method, role, "n_fake").value for method in results.methods for role in ROLES]
    fewest = min((count for count in counts if count is not None), default=SMALL_SAMPLE)
    if fewest < SMALL_SAMPLE:
        distances += (
            f" The sample is small (as few as {fewest:.0f} faces; {SMALL_SAMPLE:,} are wanted): the Fréchet distance is"
            " biased upwards and the kernel distance is the better guide. Compare the methods of one run, not runs of"
            " different sizes."
        )
    seeds, peer_seeds = (", ".join(str(seed) for seed in some) for some in (params.seeds, params.peer_seeds))
    seed = f"> **Seeds:** {params.seed} for data and measurements, {seeds} for the trainings"
    seed += f" (of the other systems {peer_seeds})." if peer_seeds else "."
    if results.seeds == 1:
        seed += " With one training seed, no interval covers what another seed would change."
    else:
        seed += (
            f" Numbers of what was trained are mean ± standard deviation over {results.seeds} seeds; their intervals"
            " span those of all seeds."
        )
        seed += f" Trained once: {listed(results.trained_once)}." if results.trained_once else ""
    stages = ", ".join(f"{job} {timing['iterations']:,}" for job, timing in results.timings.items())
    return f"{distances}\n>\n{seed}\n>\n> **Iterations:** {stages or 'unknown, nothing was trained here'}."


HOW_TO_READ = (
    "**Bold** marks the best value of a column and **≈** a value whose 95% interval [lo, hi] overlaps that of the best,"
    " so that their order is open. A dash stands for what was not measured, for the reason given under the table; a"
    " blank cell for what the paper does not report."
)
HOW_TO_JUDGE = (
    "The verdicts under the tables follow from the same intervals: where two of them do not overlap, this run confirms"
    " or contradicts the paper; where they do, it cannot tell."
)
FIGURES = (  # they depend on nothing measured
    "![Figure 1. Three designs](../docs/figures/designs.svg)\n\n"
    "*Figure 1. Three designs: (a) supervised super-resolution, learned from artificial low-resolution faces and"
    " applied to genuine ones; (b) cycle-consistent translation of genuine faces to high resolution and back, learned"
    " without pairs; (c) characteristic regularisation (CR), which makes a genuine face look like an artificial one and"
    " then super-resolves it*",
    "![Figure 2. Overview of CR](../docs/figures/overview.svg)\n\n"
    "*Figure 2. Overview of CR: (a) the characteristic module, whose inverse first learns to make pseudo-genuine faces"
    " P of artificial ones A and is then frozen, while the regulariser learns to undo it; (b) super-resolution of"
    " artificial faces A and of regulated faces R; (c) alignment of regulated with artificial faces in low resolution;"
    " (d) adversarial adaptation in the feature space of a frozen recogniser. A discriminator learns from its own half"
    " of its equation and passes on the gradient of the other half; equations have the paper's numbers*",
)


BEYOND = (
    "Beyond the paper, here and in `profiles/paper.yaml`: spectral norm in the discriminators, averaged generators,"
    " clipped gradients and a weight of eq. 8 that rises from nothing."
)


def counted_findings(found: Mapping[str, Table]) -> str:
    """How many of the paper's findings the run confirms, contradicts and cannot tell."""
    counts = tally(claim for table in found.values() for claim in table.claims or ())
    total = counts.total()
    if not total:
        return "The methods that the paper's findings compare are not in this run."
    return (
        f"Of the {total} findings of the paper that the tables below judge, this run **confirms"
        f" {counts['confirmed']}**, **contradicts {counts['contradicted']}** and **cannot tell for {counts['open']}**:"
        " their intervals overlap, test sets or measures disagree, or something was not measured."
    )


def assemble(
    params: Params, results: Results, roles: list[Role], found: Mapping[str, Table], captions: Mapping[str, str]
) -> str:
    """The text of report.md; captions: of the pictures that were drawn, by their path from report.md."""

    def table(name: str) -> str:
        return to_markdown(found[name]) if name in found else ""

    def picture(name: str) -> str:
        caption = captions.get(name, "")
        return f"![{caption.partition(':')[0]}]({name})\n\n*{caption}*\n" if caption else ""

    rows = [
        f"- **{row.label}** (`{row.method}`): {row.meaning}" + (f"; learned from {row.learned}" if row.learned else "")
        for row in results.rows
    ]
    parts = [
        f"# {params.report.title}",
        "## In short",
        table("summary"),
        picture("pictures/figure4_cctv.png"),
        counted_findings(found),
        f"{data_lines(roles)}\n>\n{opening(params, results)}",
        "## Methods",
        *FIGURES,
        "\n".join(rows),
        "## Results",
        picture("pictures/figure3_genuine.png"),
        HOW_TO_READ,
        HOW_TO_JUDGE,
        table("1"),
        picture("pictures/figure4_web.png"),
        table("2"),
        table("3"),
        picture("pictures/methods_hr_test.png"),
        table("4"),
        table("5"),
        picture("pictures/figure5_triplets.png"),
        table("6"),
        table("7"),
        picture("pictures/figure6_unsupervised.png"),
        "## Complexity",
        *(table(name) for name in ("systems", "training")),
        "## Data",
        *(table(name) for name in ("detection", "sizes", "rejections", "geometry")),
        picture("figures/geometry.png"),
        "## Setting and checks",
        BEYOND,
        table("settings"),
        table("recogniser"),
        picture("pictures/training.png"),
        picture("pictures/training_peers.png"),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"
