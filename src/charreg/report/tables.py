"""The paper's Tables 1 to 7 and its complexity, built from results, each with the sentences generated under it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from charreg.core.params import FinetuneJointOptions
from charreg.report.markup import Cell, Column, Table
from charreg.report.published import LR_SPACE, NEAREST, PAIRS, PEERS, ROLES, Row
from charreg.report.results import Measure, Results
from charreg.report.verdicts import Claim, extreme, listed, paragraph

SMALL_SAMPLE = 5000  # below this the kernel distance is the better guide (the Fréchet distance is biased upwards)
LEARNED = Column("learned_from", "learned from")
N_REAL = Column("n_real", "N real")
Better = Literal["lower", "higher"]


def _reported(value: float | None) -> Measure | None:
    return None if value is None else Measure(value)


def _systems(rows: Iterable[Row]) -> list[Row]:
    """The rows whose order in Tables 1 to 3 is judged.

    Not the variants of CR, whose comparisons are Tables 4, 6 and 7, nor methods of one's own, which the paper does
    not know.
    """
    return [row for row in rows if not row.variant and row.learned]


def _with_raw_name(row: Row) -> str:
    """The label of a row in Table 2, where the paper calls bicubic faces raw."""
    return f"{row.label} (raw LR)" if row.method == "bicubic" else row.label


def _small_sample(counts: Iterable[float | None]) -> str:
    known = [count for count in counts if count is not None]
    if not known or min(known) >= SMALL_SAMPLE:
        return ""
    return (
        f" Small sample ({min(known):.0f} faces at least, wanted {SMALL_SAMPLE:,}): the Fréchet distance is biased"
        " upwards, the kernel distance is the better guide; compare methods, not runs of another size."
    )


def _over_seeds(results: Results) -> str:
    """How a number over several trainings is meant, and that one training is one draw."""
    if results.seeds == 1:
        return " One training seed: what another would change is in no interval."
    once = results.trained_once
    return (
        f" Where something was trained: mean ± standard deviation over {results.seeds} training seeds, and an interval"
        " that spans those of all seeds" + (f"; {listed(once)}: one training." if once else ".")
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


def _n_real(results: Results, method: str) -> Measure:
    """How many faces the distances of a method are from, the same for every test set."""
    return results.measure(method, next(iter(ROLES)), "n_real")


def _fid_columns(comparable: bool) -> tuple[Column, ...]:
    """The paper's FID on both genuine test sets; `_reported_fid` fills them."""
    return tuple(_paper_column(f"paper_fid_{role}", f"FID {paper}", comparable) for role, paper in ROLES.items())


def _reported_fid(web: float | None, cctv: float | None) -> tuple[Cell, ...]:
    return _reported(web), _reported(cctv)


@dataclass(frozen=True)
class Place:
    """Where a claim is looked up and how it is called: a metric of a test set."""

    test_set: str
    metric: str
    where: str = ""
    by: str = ""


def _places(roles: Iterable[str], metrics: Iterable[str]) -> list[Place]:
    metrics = list(metrics)
    return [Place(role, metric, role, metric) for role in roles for metric in metrics]


def _claims(
    results: Results, text: str, better: Better, one: str, others: Iterable[tuple[str, str]], places: Sequence[Place]
) -> list[Claim]:
    """`one` has the better value than every other (method, label), in every place."""
    return [
        _claim(
            text,
            better,
            place,
            results.measure(one, place.test_set, place.metric),
            results.measure(other, place.test_set, place.metric),
            label,
        )
        for other, label in others
        for place in places
    ]


def _claim(text: str, better: Better, place: Place, good: Measure, bad: Measure, than: str = "") -> Claim:
    small, large = (good, bad) if better == "lower" else (bad, good)
    return Claim(text, place.where, place.by, small, large, than)


def _beyond_the_paper(claims: Iterable[Claim]) -> list[Claim]:
    return [replace(claim, paper=False) for claim in claims]


def _group_claims(
    results: Results, text: str, better: Better, good: Sequence[str], bad: Sequence[str], place: Place, than: str
) -> list[Claim]:
    """Every method of one group is better than every method of the other; nothing when a group is empty."""
    if not good or not bad:
        return []
    groups = [[results.measure(method, place.test_set, place.metric) for method in group] for group in (good, bad)]
    below = better == "lower"
    return [_claim(text, better, place, extreme(groups[0], below), extreme(groups[1], not below), than)]


# --- Tables 1 to 3: every system -------------------------------------------------------------------------


def distance_table(results: Results) -> Table:
    """Table 1: distance between super-resolved genuine faces and high-resolution training faces."""
    fd, kd, comparable = results.dialect.fd, results.dialect.kd, results.dialect.comparable
    rows = [
        (
            row.label,
            (
                row.learned,
                *_distances(results, row.method, kd, fd),
                _n_real(results, row.method),
                *_reported_fid(row.fid_web, row.fid_cctv),
            ),
        )
        for row in results.rows
    ]
    counts = [results.measure(method, role, "n_fake").value for method in results.methods for role in ROLES]
    return Table(
        "table1_distance",
        "Table 1. Distance to real high-resolution faces",
        (LEARNED, *_distance_columns(kd, fd), N_REAL, *_fid_columns(comparable)),
        tuple(rows),
        "N: super-resolved faces; N real: high-resolution training faces."
        + _variants_caption(results)
        + _over_seeds(results)
        + _small_sample(counts),
        paragraph(_distance_claims(results, _systems(results.rows), _places(ROLES, (kd, fd)))),
    )


def _variants_caption(results: Results) -> str:
    variants = [row for row in results.rows if row.variant]
    if not variants:
        return ""
    numbers = sorted(
        {
            number
            for number, of in ABLATIONS.items()
            for one in of.variants
            for row in variants
            if one.method == row.method
        }
    )
    tables = f"its Table{'s' * (len(numbers) > 1)} {listed(numbers)}"
    return f" The paper's figures of {listed([row.label for row in variants])} are those of {tables}."


def _distance_claims(results: Results, systems: Sequence[Row], places: Sequence[Place]) -> list[Claim]:
    """CR against everything; what saw genuine faces against what did not; LRGAN against CycleGAN."""
    labels = {row.method: row.label for row in systems}
    claims = []
    if "cr" in labels:
        text = f"{labels['cr']} is nearer to real faces"
        known = [(method, label) for method, label in labels.items() if method in PEERS]
        own = [(method, label) for method, label in labels.items() if method not in (*PEERS, "cr")]
        claims += _claims(results, text, "lower", "cr", known, places)
        claims += _beyond_the_paper(_claims(results, text, "lower", "cr", own, places))
    near = [row for row in systems if row.method in NEAREST]
    pairs = [row for row in systems if row.method in PEERS and row.learned == PAIRS]
    if {row.method for row in near} - {"cr"}:
        text = f"{listed([row.label for row in near])}, which saw genuine faces, {_is(near)} nearer to real faces"
        than = f"{_all_of(pairs)}, which saw artificial ones only"
        for place in places:
            good, bad = ([row.method for row in group] for group in (near, pairs))
            claims += _group_claims(results, text, "lower", good, bad, place, than)
    if {"cyclegan", "lrgan"} <= set(labels):
        text = f"{labels['lrgan']} is nearer to real faces"
        claims += _claims(results, text, "lower", "lrgan", [("cyclegan", labels["cyclegan"])], places)
    return claims


def _is(group: Sequence[Row]) -> str:
    return "are all" if len(group) > 1 else "is"


def _all_of(group: Sequence[Row]) -> str:
    return ("each of " if len(group) > 1 else "") + listed([row.label for row in group]) if group else ""


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
    rows = [
        (
            _with_raw_name(row),
            (
                row.learned,
                *(results.measure(row.method, role, name) for role in roles for name, *_ in names),
                _reported(row.rank1),
            ),
        )
        for row in results.rows
    ]
    return Table(
        "table2_recognition",
        "Table 2. Recognition of super-resolved faces",
        (LEARNED, *columns, _paper_column("paper_rank1", "rank-1 %", False)),
        tuple(rows),
        "CentreFace, gallery and probe faces both super-resolved; mean over the trials."
        + _chance(results, roles)
        + _over_seeds(results),
        paragraph(
            _recognition_claims(
                results, _systems(results.rows), [Place(role, "rank1", role, "rank-1") for role in roles]
            )
        ),
    )


def _recognition_claims(results: Results, systems: Sequence[Row], places: Sequence[Place]) -> list[Claim]:
    """CR against everything, then raw faces against the peers, on the side the paper finds each."""
    rows = {row.method: row for row in systems}
    labels = {method: "raw LR" if method == "bicubic" else row.label for method, row in rows.items()}
    claims = []
    if "cr" in rows:
        text = f"{labels['cr']} is recognised better"
        known = [(method, label) for method, label in labels.items() if method in ("bicubic", *PEERS)]
        own = [(method, label) for method, label in labels.items() if method not in ("bicubic", *PEERS, "cr")]
        claims += _claims(results, text, "higher", "cr", known, places)
        claims += _beyond_the_paper(_claims(results, text, "higher", "cr", own, places))
    if raw := rows.get("bicubic"):
        for better, text in (("lower", "raw LR is recognised worse"), ("higher", "raw LR is recognised better")):
            others = [
                (method, labels[method])
                for method in PEERS
                if method in rows and _paper_says(raw.rank1, rows[method].rank1) == better
            ]
            claims += _claims(results, text, "higher" if better == "higher" else "lower", "bicubic", others, places)
    return [claim if claim.where == "web" else replace(claim, paper=False) for claim in claims]  # Table 2 has one set


def _paper_says(one: float | None, other: float | None) -> Better | None:
    """On which side of another published number one lies."""
    if one is None or other is None or one == other:
        return None
    return "lower" if one < other else "higher"


def _chance(results: Results, roles: Sequence[str]) -> str:
    people = {role: results.measure(results.methods[0], role, "n_identities").value for role in roles}
    chances = [f"{role} {100 / count:.1f}" for role, count in people.items() if count]
    return f" Guessing gives a rank-1 of: {', '.join(chances)} %." if chances else ""


def fidelity_table(results: Results) -> Table:
    """Table 3: fidelity on artificial low-resolution faces, whose truth is known."""
    names = (("psnr_rgb", "PSNR dB ↑", 2), ("ssim_rgb", "SSIM ↑", 4), ("psnr_y", "PSNR-Y dB ↑", 2))
    rows = []
    for row in results.rows:
        measures = (
            results.measure(row.method, "hr_test", name) for name in (*(name for name, *_ in names), "n_images")
        )
        rows.append((row.label, (row.learned, *measures, _reported(row.psnr), _reported(row.ssim))))
    stage_1 = ", so CR, stage 1 is its super-resolver alone here" if "cr_stage1" in results.methods else ""
    return Table(
        "table3_fidelity",
        "Table 3. Fidelity on artificial low-resolution faces (HR test; paper: Helen)",
        (
            LEARNED,
            *(Column(name, head, digits, "higher") for name, head, digits in names),
            Column("n_images", "N"),
            _paper_column("paper_psnr", "PSNR Helen", False),
            _paper_column("paper_ssim", "SSIM Helen", False, 4),
        ),
        tuple(rows),
        f"Artificial faces skip the regulariser{stage_1}. RGB on 8 bits; Y is BT.601 luma."
        " All methods see the same faces, so the intervals are wider than those of a paired difference."
        + _over_seeds(results),
        paragraph(_fidelity_claims(results, _systems(results.rows))),
    )


def _fidelity_claims(results: Results, systems: Sequence[Row]) -> list[Claim]:
    """CR and VDSR against the peers as the paper orders them; the lowest; CR against its own first stage."""
    rows = {row.method: row for row in systems}
    peers = [row for row in systems if row.method in PEERS]
    psnr, ssim = Place("hr_test", "psnr_rgb"), Place("hr_test", "ssim_rgb")
    claims = []
    for method, against in (
        ("vdsr", [*peers, *([rows["cr"]] if "cr" in rows else [])]),
        ("cr", [row for row in peers if row.method != "vdsr"]),
    ):
        for better in ("higher", "lower"):
            if method in rows:
                others = [
                    (row.method, row.label) for row in against if _paper_says(rows[method].psnr, row.psnr) == better
                ]
                text = f"{rows[method].label} has a {better} PSNR"
                claims += _claims(results, text, "higher" if better == "higher" else "lower", method, others, [psnr])
    low = [row for row in peers if row.method in ("cyclegan", "lrgan")]
    rest = [row for row in systems if row.psnr is not None and row not in low]
    claims += _group_claims(
        results,
        f"{listed([row.label for row in low])} {'have' if len(low) > 1 else 'has'} a lower PSNR",
        "lower",
        [row.method for row in low],
        [row.method for row in rest],
        psnr,
        _all_of(rest),
    )
    if "cr" in rows:
        others = [(row.method, row.label) for row in peers]
        claims += _claims(results, f"{rows['cr'].label} has a higher SSIM", "higher", "cr", others, [ssim])
    if {"cr", "sr_module"} <= set(rows):
        text = f"joint training costs no fidelity: {rows['cr'].label} lies higher"
        places = [Place("hr_test", "psnr_rgb", by="PSNR"), Place("hr_test", "ssim_rgb", by="SSIM")]
        own = _claims(results, text, "higher", "cr", [("sr_module", rows["sr_module"].label)], places)
        claims += _beyond_the_paper(own)
    return claims


# --- Table 5: low-resolution faces -----------------------------------------------------------------------


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
    columns = (*_distance_columns(kd, fd), Column("n_real", "N artificial"), *_fid_columns(results.dialect.comparable))
    declared = [(method, label) for method, label in LR_ROWS if method in ("genuine", *results.methods)]
    rows: list[tuple[str, tuple[Cell, ...]]] = [
        (
            label,
            (
                *_distances(results, method, kd, fd),
                _n_real(results, method),
                *_reported_fid(*LR_SPACE.get(method, (None, None))),
            ),
        )
        for method, label in declared
    ]
    *floor, half = (results.measure("genuine", "artificial", name) for name in (kd, fd, "n_fake", "n_real"))
    rows.append(("Artificial LR (floor)", (*floor, *floor, half, None, None)))
    claims = []
    for method, label in declared[1:]:
        text = f"{label[0].lower()}{label[1:]} is nearer to artificial LR"
        claims += _claims(results, text, "lower", method, [("genuine", "genuine LR")], _places(ROLES, (kd, fd)))
    counts = [results.measure(method, role, "n_fake").value for method, _ in declared for role in ROLES]
    return Table(
        "table5_lr_space",
        "Table 5. Distance to artificial low-resolution faces, at 16x16",
        columns,
        tuple(rows),
        _floor_caption(results, kd, fd) + _over_seeds(results) + _small_sample(counts),
        paragraph(claims),
        frozenset({"Artificial LR (floor)"}),
        "Faces",
    )


# --- Tables 4, 6 and 7: CR without one of its parts ------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """CR without a part: the row's label, and what the part does if the finding holds."""

    method: str
    label: str
    finding: str


@dataclass(frozen=True)
class Ablation:
    """A table of CR without and with a part."""

    name: str
    title: str
    variants: tuple[Variant, ...]
    full: str  # the label of CR
    caption: str


ABLATIONS = {
    "4": Ablation(
        "table4_regularisation",
        "Table 4. Characteristic regularisation",
        (Variant("wo_cr", "Without (W/O CR)", "regularisation brings the faces nearer to real ones"),),
        "With (CR)",
        "Without: the super-resolver sees genuine faces as they are, in the joint training and here; its losses are"
        " eq. 1, eq. 7 on those faces, and eq. 8.",
    ),
    "6": Ablation(
        "table6_stage2",
        "Table 6. Fine-tuning the super-resolver on regulated faces",
        (
            Variant("cr_stage1", "Without stage 2 (W/O SR-RI)", "stage 2 brings the faces nearer to real ones"),
            Variant(
                "wo_sr_ri_joint",
                "Stage 2 on eq. 1 and 6 alone (W/O SR-RI, other reading)",
                "the regulated faces of stage 2 bring the faces nearer to real ones",
            ),
        ),
        "With stage 2 (CR)",
        "",
    ),
    "7": Ablation(
        "table7_unsupervised",
        "Table 7. Unsupervised SR loss (eq. 7)",
        (Variant("wo_ul", "Without (W/O UL)", "the unsupervised loss brings the faces nearer to real ones"),),
        "With (CR)",
        "The gap in the paper is 2.2 and 0.6 FID, less than another training seed may change.",
    ),
}


PSEUDO_PAIRS = (
    " Beyond the paper, CR's joint training learns from pseudo-genuine pairs as well (`sr_on_pseudo`), which the other"
    " row lacks: the gap is that of both."
)
IMAGE_GAN = (
    " Beyond the paper, stage 2 keeps the image GAN that ends stage 1 of the super-resolver (`keep_sr_adv`): the gap to"
    " stage 1 is also that of more of its steps."
)
ON_REGULATED = " It judges super-resolved regulated faces too (`sr_adv_on_regulated`)."


def ablation_table(results: Results, number: str, options: FinetuneJointOptions | None = None) -> Table | None:
    """Table 4, 6 or 7; None when no variant of it is declared.

    options: of stage 2, whose terms beyond the paper a caption names where the row of CR alone gains by them.
    """
    ablation = ABLATIONS[number]
    fd, kd = results.dialect.fd, results.dialect.kd
    declared = [variant for variant in ablation.variants if variant.method in results.methods]
    if not declared:
        return None
    labels = {variant.method: variant.label for variant in declared}
    labels |= {"cr": ablation.full} if "cr" in results.methods else {}
    rows = []
    for method, usual in labels.items():
        row = results.row(method)
        label = str(results.metrics[method].get("label") or usual)
        reported = _reported_fid(row.fid_web, row.fid_cctv)
        rows.append((label, (*_distances(results, method, kd, fd), _n_real(results, method), *reported)))
    claims = [
        Claim(
            variant.finding, role, name, results.measure("cr", role, name), results.measure(variant.method, role, name)
        )
        for variant in declared
        for role in ROLES
        for name in (kd, fd)
        if "cr" in labels
    ]
    counts = [results.measure(method, role, "n_fake").value for method in labels for role in ROLES]
    beyond = PSEUDO_PAIRS if options and options.sr_on_pseudo and number != "7" else ""
    if options and options.keep_sr_adv and number == "6":
        beyond += IMAGE_GAN + (ON_REGULATED if options.sr_adv_on_regulated else "")
    return Table(
        ablation.name,
        ablation.title,
        (*_distance_columns(kd, fd), N_REAL, *_fid_columns(results.dialect.comparable)),
        tuple(rows),
        (ablation.caption + beyond + _over_seeds(results) + _small_sample(counts)).strip(),
        paragraph(claims),
        first="Variant",
    )
