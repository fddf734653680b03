"""The complexity of CR and of the paper's top three systems: parameters, speed, training, equal budgets."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from charreg.core.params import Params
from charreg.report.markup import Cell, Column, Table
from charreg.report.published import GENUINE, MILLISECONDS, PAIRS, PARAMETERS, TRAINING_HOURS
from charreg.report.results import Measure, Results
from charreg.report.tables import reported
from charreg.report.verdicts import Comparison, Place, listed

JOBS_OF_CR = ("sr_module", "inverse_cr", "characteristic", "cr")
GENERATORS_OF = {  # the jobs whose generator iterations make a system; those of the inverse are not counted
    **{job: ("sr_module", "characteristic", job) for job in ("cr", "wo_ul", "wo_sr_ri_joint")},
    "wo_cr": ("sr_module", "wo_cr"),
}
PARTS_OF_CR = ("centreface", "matcher", "inverse_cr", "characteristic")  # jobs that make no system of their own
Find = Callable[[str], Measure]
CLOCK = 0.1  # a wall-clock time counts as known to this share of itself


def systems_table(results: Results) -> Table:
    """The paper's complexity of its top three systems, those of them that are declared.

    Judged: every pair of them on the side the paper finds it; counts are exact, times known to CLOCK.
    """
    rows = {row.method: row.label for row in results.rows if row.method in PARAMETERS}
    complexity, widths = results.complexity, {"run": "this run's widths", "paper": "the paper's widths"}
    counts, times = (
        {wide: partial(results.system, width=width, name=name) for width, wide in widths.items()}
        for name in ("parameters", "ms_single")
    )

    def training(method: str) -> Measure:
        return results.over_jobs(JOBS_OF_CR if method == "cr" else [method], "seconds", 3600)

    kinds: tuple[tuple[str, Mapping[str, float], Mapping[str, Find], float], ...] = (
        ("{} has fewer parameters", PARAMETERS, counts, 0.0),
        ("{} trains faster", TRAINING_HOURS, {"": training}, CLOCK),
        ("{} infers faster", MILLISECONDS, times, CLOCK),
    )
    claims = []
    for text, papers, finds, share in kinds:
        places = [Place(partial(_within, find, share), where) for where, find in finds.items()]
        for one in reversed(rows):
            claims += Comparison(rows, papers, places).as_published({"lower": text}, one, reversed(rows))
    return Table(
        "complexity_systems",
        "Complexity of the paper's top three systems",
        "System",
        rows,
        [
            *(
                Column(f"parameters_{of}", f"parameters, {wide}", counts[wide], 0, "lower")
                for of, wide in widths.items()
            ),
            reported(PARAMETERS, "parameters", "parameters", 0, "reported"),
            Column("training_hours", "training, h", training, 3, "lower"),
            reported(TRAINING_HOURS, "training_hours", "training, h on a Tesla P100", 0),
            *(Column(f"ms_{of}", f"ms an image, {wide}", times[wide], 2, "lower") for of, wide in widths.items()),
            reported(MILLISECONDS, "ms", "ms on a Tesla P100", 1),
        ],
        "Parameters count every network of the last training loop, the reading that gives the paper's numbers. Times of"
        f" an image are medians of {complexity['repeats']} runs on {complexity['device']}, CR with its regulariser."
        f" Training of CR: {listed([f'`{job}`' for job in JOBS_OF_CR])} together; `centreface`, the recogniser that"
        f" several systems use, comes on top. For the verdict below a time is taken as known to within {CLOCK:.0%}."
        f" {_machine(complexity)}.",
        claims,
    )


def _within(find: Find, share: float, method: str) -> Measure:
    """What `find` says of a method, as known to a share of itself."""
    found = find(method)
    return found if found.value is None else Measure(found.value, found.value * (1 - share), found.value * (1 + share))


def training_table(results: Results, jobs: Sequence[str], params: Params) -> Table:
    """Iterations, seconds and peak memory of every training job, and whether the systems had equal budgets."""

    def of_job(name: str) -> Find:
        return lambda job: results.over_jobs([job], name)

    def generator(job: str) -> Cell:
        return None if job in PARTS_OF_CR else results.over_jobs(GENERATORS_OF.get(job, [job]), "iterations")

    trainings = [seed for seeds in results.timings.values() for seed in seeds]
    hours = sum(float(timing.get("seconds", 0)) for timing in trainings) / 3600
    machines = " ".join(f"{text}." for text in sorted({_machine(timing) for timing in trainings}))
    return Table(
        "complexity_training",
        "Training",
        "Job",
        {job: f"`{job}`" for job in jobs},
        [
            Column("iterations", "iterations", of_job("iterations")),
            Column("generator_iterations", "generator iterations of the whole system", generator),
            Column("seconds", "seconds", of_job("seconds"), 1),
            Column("peak_memory_mib", "peak memory, MiB", of_job("peak_memory_mib")),
            Column("batch", "batch", of_job("batch")),
        ],
        f"Together {hours:.2f} h; a time is the mean over the training seeds. {machines}",
        remark=budget_sentence(results, params),
    )


def budget_sentence(results: Results, params: Params) -> str:
    """Whether the peers have as many generator iterations as what CR makes of the same faces, no more and no fewer."""
    artificial = params.pretrain_sr.iterations
    genuine = artificial + params.pretrain_cr.iterations + params.finetune_joint.iterations
    rule = {PAIRS: artificial, GENUINE: genuine}
    equal, different = [], []
    for row in results.rows:
        if row.method in params.peers and row.learned in rule:
            iterations, wanted = params.peers[row.method].iterations, rule[row.learned]
            if iterations == wanted:
                equal.append(row.label)
            else:
                different.append(f"{row.label} ({iterations:,}, wanted {wanted:,})")
    return (
        "**Budgets.** A system that learned from artificial pairs only should have as many generator iterations as the"
        f" super-resolver's pretraining ({artificial:,}), one that saw genuine faces as many as all of CR"
        f" ({genuine:,}: super-resolver, regulariser and joint training), all of them scaled by {params.epoch_scale:g};"
        " steps of discriminators and of the inverse do not count, nor does the batch. Equal by this rule:"
        f" {listed(equal) or 'none'}. **Not equal:** {listed(different) or 'none'}. The other systems have the"
        " stabilisers of their publications, not those that CR's discriminators have beyond the paper."
    )


def _machine(numbers: Mapping[str, Any]) -> str:
    """Where a time was measured, from a timings file or complexity.json."""
    known = {**numbers.get("machine", {}), **numbers.get("versions", {})}
    return "Machine: " + (", ".join(f"{name} {value}" for name, value in known.items()) or "unknown")
