"""The whole report: its tables, pictures and generated sentences, put together as markdown and CSV files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charreg.core.files import output_folder, write_bytes
from charreg.core.params import Params
from charreg.report import costs, datasets, tables
from charreg.report.datasets import read_roles
from charreg.report.figures import Folders, draw_faces
from charreg.report.markup import Table, to_csv, to_markdown
from charreg.report.plots import draw_curves, write_plots
from charreg.report.published import ROLES, in_order
from charreg.report.results import Results, read_results
from charreg.report.settings import departures
from charreg.report.verdicts import listed, tally

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
    variants = [method for method in methods if method in params.joint_variants]
    jobs = [*FIRST_JOBS, *peers, *variants]
    features = params.evaluate.features
    results = read_results(inputs.scores, inputs.training, inputs.complexity, methods, jobs, features)
    roles = read_roles(params, inputs.faces)
    simulated = {str(role): source.simulated for role, source in params.lr_roles.items()}
    made = (
        tables.summary_table(results, simulated),
        tables.distance_table(results),
        tables.recognition_table(results),
        tables.fidelity_table(results),
        tables.lr_space_table(results),
        *tables.ablation_tables(results, params.finetune_joint),
        costs.systems_table(results),
        costs.training_table(results, jobs, params),
        datasets.detection_table(results),
        datasets.size_table(roles),
        datasets.rejection_table(roles),
        datasets.geometry_table(results, params.geometry.max_shift),
        departures(params, inputs.paper),
        datasets.matcher_table(results),
    )
    found = [table for table in made if table.rows]
    with output_folder(out / "tables") as folder:
        for table in found:
            write_bytes(folder / f"{table.name}.md", to_markdown(table).encode())
            write_bytes(folder / f"{table.name}.csv", to_csv(table).encode())
    seed = f" (seed {params.seeds[0]})" if len(params.seeds) > 1 else ""
    with output_folder(out / "pictures") as folder:
        captions = draw_faces(folder, inputs.faces, results.labels, params.report.faces, params.seed, simulated)
        for name, whose, drawn in (
            ("training", "CR's trainings", [*FIRST_JOBS, *variants]),
            ("training_peers", "the other systems' trainings", peers),
        ):
            caption = f"Losses and health signals of {whose}, by step{seed}"
            captions |= draw_curves(folder, inputs.training, drawn, f"{name}.png", caption)
    with output_folder(out / "plots") as folder:
        write_plots(inputs.training, jobs, folder)
    captions = {f"pictures/{name}": caption for name, caption in captions.items()}
    if (out / "figures/geometry.png").is_file():
        captions["figures/geometry.png"] = GEOMETRY
    blocks = {
        "findings": counted_findings(found),
        "opening": f"{datasets.data_lines(roles)}\n>\n{opening(params, results)}",
        "methods": "\n".join(
            f"- **{row.label}** (`{row.method}`): {row.meaning}; learned from {row.learned or '?'}"
            for row in results.rows
        ),
        **{table.name: to_markdown(table) for table in found},
        **{
            path: f"![{words.partition(':')[0]}]({path})\n\n*{words}*"
            for path, words in {**FIGURES, **captions}.items()
        },
    }
    parts = [f"# {params.report.title}", *(blocks.get(part, part if " " in part else "") for part in ORDER)]
    write_bytes(out / "report.md", ("\n\n".join(part.strip("\n") for part in parts if part) + "\n").encode())


def opening(params: Params, results: Results) -> str:
    """How the distances are called, the seeds and the length of the trainings: under the lines on the data."""
    dialect = results.dialect
    not_fid = "" if dialect.comparable else " They are not FID: compare them with each other, never with the paper's."
    counts = [results.measure(method, role, "n_fake").value for method in results.methods for role in ROLES]
    fewest = min((count for count in counts if count is not None), default=0)
    seeds, peer_seeds = (", ".join(str(seed) for seed in some) for some in (params.seeds, params.peer_seeds))
    trained = {
        row.label: results.scores[row.method].get("seeds", 1) for row in results.rows if row.method in results.timings
    }
    once = [label for label, count in trained.items() if count < max(trained.values())]
    iterations = ", ".join(f"{job} {found[0]['iterations']:,}" for job, found in results.timings.items())
    return (
        f"> **Distances:** `{dialect.fd}` (Fréchet) and `{dialect.kd}` (kernel) on {dialect.features}.{not_fid} With"
        f" fewer than 5,000 faces (here as few as {fewest:,.0f}) the Fréchet distance is biased upwards; the kernel one"
        " is a better guide. Compare the methods of one run, not runs of different sizes.\n>\n"
        f"> **Seeds:** {params.seed} for data and measurements, {seeds} for the trainings"
        f"{peer_seeds and f' (of the other systems {peer_seeds})'}. Of several, numbers are mean ± standard deviation,"
        " intervals span those of all; of one, no interval covers what another seed would change."
        f"{f' Trained once: {listed(once)}.' if once else ''}\n>\n"
        f"> **Iterations:** {iterations or 'unknown, nothing was trained here'}."
    )


def counted_findings(found: Sequence[Table]) -> str:
    """How many of the paper's findings the run confirms, contradicts and cannot tell."""
    counts = tally(claim for table in found for claim in table.claims or ())
    return (
        f"Of the {counts.total()} findings of the paper that the tables below judge, this run **confirms"
        f" {counts['confirmed']}**, **contradicts {counts['contradicted']}** and **cannot tell for {counts['open']}**:"
        " their intervals overlap, test sets or measures disagree, or something was not measured."
    )


HOW_TO_READ = (
    "**Bold** marks the best value of a column and **≈** a value whose 95% interval [lo, hi] overlaps that of the best,"
    " so that their order is open. A dash stands for what was not measured, for the reason given under the table; a"
    " blank cell for what the paper does not report. The verdicts follow from the same intervals: where two of them do"
    " not overlap, this run confirms or contradicts the paper; where they do, it cannot tell."
)
GEOMETRY = (
    "Mean artificial face (left) and mean genuine face (right): 16x16 pixels, with the mean eyes as yellow (artificial)"
    " and cyan (genuine) circles"
)
FIGURES = {  # they depend on nothing measured
    "../docs/figures/designs.svg": (
        "Figure 1. Three designs: (a) supervised super-resolution, learned from artificial faces; (b) cycle-consistent"
        " translation of genuine faces, learned without pairs; (c) characteristic regularisation (CR), which makes a"
        " genuine face look like an artificial one and then super-resolves it"
    ),
    "../docs/figures/overview.svg": (
        "Figure 2. Overview of CR: (a) the characteristic module and its inverse, from artificial faces A to"
        " pseudo-genuine faces and back; (b) super-resolution of A and of regulated faces R; (c) alignment of R with A"
        " in low resolution; (d) adversarial adaptation in the feature space of a frozen recogniser. Equations have the"
        " paper's numbers"
    ),
}
ORDER = (  # of the report: headings, and the names of tables, pictures and other blocks, left out where there is none
    *("## In short", "summary", "pictures/figure4_cctv.png", "findings", "opening"),
    *("## Methods", *FIGURES, "methods"),
    *("## Results", "pictures/figure3_genuine.png", HOW_TO_READ),
    *("table1_distance", "pictures/figure4_web.png", "table2_recognition"),
    *("table3_fidelity", "pictures/methods_hr_test.png", "table4_regularisation"),
    *("table5_lr_space", "pictures/figure5_triplets.png", "table6_stage2"),
    *("table7_unsupervised", "pictures/figure6_unsupervised.png"),
    *("## Complexity", "complexity_systems", "complexity_training"),
    *("## Data", "detection", "sizes", "rejections", "geometry", "figures/geometry.png"),
    *("## Setting and checks", "settings", "recogniser", "pictures/training.png", "pictures/training_peers.png"),
)
