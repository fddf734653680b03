"""The complexity of CR and of the paper's top three systems: parameters, speed, training, equal budgets."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from charreg.core.params import Params
from charreg.report.markup import Column, Table
from charreg.report.published import COSTS, GENUINE, PAIRS, Learned, Row
from charreg.report.results import Measure, Results, other_seeds
from charreg.report.verdicts import Claim, listed

JOBS_OF_CR = ("sr_module", "inverse_cr", "characteristic", "cr")
GENERATORS_OF = {  # the jobs whose generator iterations make a system; those of the inverse are not counted
    "cr": ("sr_module", "characteristic", "cr"),
    "wo_ul": ("sr_module", "characteristic", "wo_ul"),
    "wo_sr_ri_joint": ("sr_module", "characteristic", "wo_sr_ri_joint"),
    "wo_cr": ("sr_module", "wo_cr"),
}
PARTS_OF_CR = ("centreface", "matcher", "inverse_cr", "characteristic")  # jobs that make no system of their own
CLOCK = 0.1  # a wall-clock time counts as known to this share of itself
WIDTHS = {"run": "this run's widths", "paper": "the paper's widths"}


def systems_table(results: Results) -> Table | None:
    """The paper's complexity of its top three systems; None when none of them is declared."""
    declared = [row for row in results.rows if row.method in COSTS]
    if not declared:
        return None
    rows = []
    for row in declared:
        cost = COSTS[row.method]
        rows.append(
            (
                row.label,
                (
                    *(results.system(row.method, width, "parameters") for width in WIDTHS),
                    Measure(cost.parameters),
                    _training_hours(results, row.method),
                    Measure(cost.training_hours),
                    *(results.system(row.method, width, "ms_single") for width in WIDTHS),
                    Measure(cost.milliseconds),
                ),
            )
        )
    complexity = results.complexity
    caption = (
        "Parameters count every network of the last training loop, the reading that gives the paper's numbers. Times of"
        f" an image are medians of {complexity['repeats']} runs on {complexity['device']}, CR with its regulariser."
    )
    if any(row.method == "cr" for row in declared):
        caption += f" Training of CR: {listed([f'`{job}`' for job in JOBS_OF_CR])} together."
    recogniser = results.over_jobs(["centreface"], "seconds").value
    if recogniser is not None:
        caption += f" The recogniser that losses of several systems use comes on top: {recogniser / 3600:.3f} h."
    caption += f" For the verdict below a time is taken as known to within {CLOCK:.0%}."
    return Table(
        "complexity_systems",
        "Complexity of the paper's top three systems",
        (
            Column("parameters_run", "parameters, this run's widths", 0, "lower"),
            Column("parameters_paper_width", "parameters, the paper's widths", 0, "lower"),
            Column("paper_parameters", "paper parameters (reported)"),
            Column("training_hours", "training, h", 3, "lower"),
            Column("paper_training_hours", "paper training, h on a Tesla P100 (reported, not comparable)"),
            Column("ms_run", "ms an image, this run's widths", 2, "lower"),
            Column("ms_paper_width", "ms an image, the paper's widths", 2, "lower"),
            Column("paper_ms", "paper ms on a Tesla P100 (reported, not comparable)", 1),
        ),
        tuple(rows),
        f"{caption} {_machine(complexity)}.",
        tuple(_cost_claims(results, declared)),
        first="System",
    )


def _training_hours(results: Results, method: str) -> Measure:
    """The wall clock of a system's jobs together."""
    found = results.over_jobs(JOBS_OF_CR if method == "cr" else [method], "seconds")
    if found.value is None:
        return found
    return Measure(found.value / 3600, spread=None if found.spread is None else found.spread / 3600)


def _cost_claims(results: Results, declared: Sequence[Row]) -> list[Claim]:
    """Every pair of the three systems on the side the paper finds it: counts are exact, times known to CLOCK."""
    claims = []
    pairs = [(one, other) for one in reversed(declared) for other in reversed(declared)]
    find: Callable[[str, str], Measure]
    for text, published, find, places in (
        ("has fewer parameters", "parameters", lambda m, w: _within(results.system(m, w, "parameters"), 0), WIDTHS),
        ("trains faster", "training_hours", lambda m, _: _within(_training_hours(results, m), CLOCK), {"": ""}),
        ("infers faster", "milliseconds", lambda m, w: _within(results.system(m, w, "ms_single"), CLOCK), WIDTHS),
    ):
        for one, other in pairs:
            if getattr(COSTS[one.method], published) < getattr(COSTS[other.method], published):
                claims += [
                    Claim(
                        f"{one.label} {text}",
                        where,
                        "",
                        find(one.method, width),
                        find(other.method, width),
                        other.label,
                    )
                    for width, where in places.items()
                ]
    return claims


def _within(measure: Measure, share: float) -> Measure:
    """A measure with the interval it is known to; one that has an interval keeps it."""
    if measure.value is None or measure.interval:
        return measure
    return Measure(measure.value, measure.value * (1 - share), measure.value * (1 + share))


def training_table(results: Results, jobs: Sequence[str], params: Params) -> Table:
    """Iterations, seconds and peak memory of every training job, and whether the systems had equal budgets."""
    rows = []
    for job in jobs:
        generator = None if job in PARTS_OF_CR else results.over_jobs(GENERATORS_OF.get(job, [job]), "iterations")
        iterations, batch, seconds, memory = (
            results.over_jobs([job], name) for name in ("iterations", "batch", "seconds", "peak_memory_mib")
        )
        rows.append((f"`{job}`", (iterations, generator, seconds, memory, batch)))
    trainings = [one for timing in results.timings.values() for one in (timing, *other_seeds(timing))]
    total = [float(timing["seconds"]) for timing in trainings if "seconds" in timing]
    caption = f"Together {sum(total) / 3600:.2f} h" if total else "No training time is known"
    if "cr" in results.methods:
        caption += f" (paper: {COSTS['cr'].training_hours:.0f} h for CR on one Tesla P100, other budgets)"
    caption += "." if len(trainings) == len(results.timings) else "; a time is the mean over the training seeds."
    caption += "".join(f" {text}." for text in sorted({_machine(timing) for timing in trainings}))
    return Table(
        "complexity_training",
        "Training",
        (
            Column("iterations", "iterations"),
            Column("generator_iterations", "generator iterations of the whole system"),
            Column("seconds", "seconds", 1),
            Column("peak_memory_mib", "peak memory, MiB"),
            Column("batch", "batch"),
        ),
        tuple(rows),
        caption,
        remark=budget_sentence(results, params),
        first="Job",
    )


def budget_sentence(results: Results, params: Params) -> str:
    """Whether the peers have as many generator iterations as what CR makes of the same faces, no more and no fewer."""
    artificial, batch = params.pretrain_sr.iterations, params.pretrain_sr.batch
    genuine = artificial + params.pretrain_cr.iterations + params.finetune_joint.iterations
    rule: dict[Learned, int] = {PAIRS: artificial, GENUINE: genuine}
    text = (
        "**Budgets.** A system that learned from artificial pairs only should have as many generator iterations as the"
        f" super-resolver's pretraining ({artificial:,}), one that saw genuine faces as many as all of CR ({genuine:,}:"
        " super-resolver, regulariser and joint training); steps of discriminators and of the inverse do not count."
    )
    if params.epoch_scale != 1:
        text += f" All of them are then scaled by {params.epoch_scale:g}."
    equal, different, unknown, odd = [], [], [], []
    for row in results.rows:
        if row.method not in params.peers:
            continue
        peer, wanted = params.peers[row.method], rule.get(row.learned)
        if wanted is None:
            unknown.append(f"{row.label} ({peer.iterations:,})")
        elif peer.iterations == wanted:
            equal.append(row.label)
        else:
            different.append(f"{row.label} ({peer.iterations:,}, wanted {wanted:,})")
        odd += [f"{peer.batch} for {row.label}"] if peer.batch != batch else []
    text += f" Equal by this rule: {listed(equal)}." if equal else ""
    text += f" **Not equal:** {listed(different)}." if different else ""
    text += f" A batch holds {batch} faces in the super-resolver's pretraining, but {listed(odd)}." if odd else ""
    rivals = [row.label for row in results.rows if row.method in ("cyclegan", "lrgan")]
    if rivals and (params.finetune_joint.d_jitter or params.finetune_joint.d_lr_factor != 1):
        text += (
            f" {listed(rivals)} {'have' if len(rivals) > 1 else 'has'} the stabilisers of the original publication, not"
            " the jitter and the rate factor that CR's discriminators have beyond the paper."
        )
    text += f" Not judged, as the report does not know what they learned from: {listed(unknown)}." if unknown else ""
    return text if equal or different or unknown else f"{text} No system it applies to is in this run."


def _machine(numbers: Mapping[str, Any]) -> str:
    """Where a time was measured, from a timings file or complexity.json."""
    machine, versions = numbers.get("machine", {}), numbers.get("versions", {})
    units = (("cores", "core"), ("threads", "thread"))
    parts = [str(machine.get("cpu", "unknown processor"))]
    parts += [f"{machine[name]} {noun}{'s' * (machine[name] != 1)}" for name, noun in units if name in machine]
    return "Machine: " + ", ".join([*parts, *(f"{name} {version}" for name, version in versions.items())])
