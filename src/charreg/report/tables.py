"""The paper's Tables 1 to 7 and the summary of them, built from results, each with the claims judged under it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from charreg.core.params import FinetuneJointOptions
from charreg.report.markup import Cell, Column, Table
from charreg.report.published import LR_SPACE, NEAREST, PAIRS, PEERS, ROLES, Row
from charreg.report.results import Measure, Results
from charreg.report.verdicts import Claim, extreme, listed

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


def _raw(row: Row, label: str) -> Row:
    """A row of Table 2, where the paper calls bicubic faces raw."""
    return replace(row, label=label) if row.method == "bicubic" else row


def _count(results: Results, method: str, test_set: str, name: str) -> str:
    """A number of faces or people as text, `?` where it is not known."""
    count = results.measure(method, test_set, name).value
    return "?" if count is None else f"{count:,.0f}"


def _paper_column(key: str, head: str, comparable: bool, digits: int = 2) -> Column:
    remark = "reported, other faces" if comparable else "reported, not comparable"
    return Column(key, f"paper {head} ({remark})", digits)


def _distance_columns(kd: str, fd: str, n_real: Column, comparable: bool) -> tuple[Column, ...]:
    """Both distances and the number of faces of every genuine test set, N real, and the paper's FID."""
    measured = [
        column
        for role, paper in ROLES.items()
        for column in (
            Column(f"{role}_{kd}", f"{role} (paper: {paper})<br>{kd} ×1000 ↓", 1, "lower"),
            Column(f"{role}_{fd}", f"{role}<br>{fd} ↓", 1, "lower"),
            Column(f"{role}_n", f"{role}<br>N"),
        )
    ]
    papers = [_paper_column(f"paper_fid_{role}", f"FID {paper}", comparable) for role, paper in ROLES.items()]
    return (*measured, n_real, *papers)


def _distances(
    results: Results, method: str, kd: str, fd: str, reported: tuple[float | None, float | None]
) -> tuple[Cell, ...]:
    """The cells under `_distance_columns`; reported: the paper's FID on both sets."""
    measured = [results.measure(method, role, name) for role in ROLES for name in (kd, fd, "n_fake")]
    return (*measured, results.measure(method, next(iter(ROLES)), "n_real"), *map(_reported, reported))


@dataclass(frozen=True)
class Place:
    """Where a claim is looked up and how it is called: a metric of a test set."""

    test_set: str
    metric: str
    where: str = ""
    by: str = ""


def _places(roles: Iterable[str], metrics: Collection[str]) -> list[Place]:
    return [Place(role, metric, role, metric) for role in roles for metric in metrics]


def _claims(
    results: Results,
    text: str,
    better: Better,
    one: str,
    others: Iterable[Row],
    places: Iterable[Place],
    known: Collection[str] = PEERS,
) -> list[Claim]:
    """`one` has the better value than every other, in every place; known: the others the paper compares it with."""
    places = list(places)
    return [
        _claim(
            text,
            better,
            place,
            results.measure(one, place.test_set, place.metric),
            results.measure(other.method, place.test_set, place.metric),
            other.label,
            other.method in known,
        )
        for other in others
        for place in places
    ]


def _claim(
    text: str, better: Better, place: Place, good: Measure, bad: Measure, than: str = "", paper: bool = True
) -> Claim:
    small, large = (good, bad) if better == "lower" else (bad, good)
    return Claim(text, place.where, place.by, small, large, than, paper)


def _group_claims(
    results: Results, text: str, good: Sequence[Row], bad: Sequence[Row], places: Iterable[Place], than: str
) -> list[Claim]:
    """Every method of one group has lower values than every method of the other; nothing when a group is empty."""
    if not good or not bad:
        return []
    than = f"{'each of ' if len(bad) > 1 else ''}{listed([row.label for row in bad])}{than}"
    claims = []
    for place in places:
        ours, theirs = (
            extreme([results.measure(row.method, place.test_set, place.metric) for row in group], largest)
            for group, largest in ((good, True), (bad, False))
        )
        claims.append(_claim(text, "lower", place, ours, theirs, than))
    return claims


# --- the summary -----------------------------------------------------------------------------------------


def summary_table(results: Results, simulated: Mapping[str, bool]) -> Table:
    """The systems in a few numbers: distance and rank-1 on both genuine test sets, PSNR on artificial faces."""
    first, kd = results.methods[0], results.dialect.kd
    places = [*((role, kd) for role in ROLES), *((role, "rank1") for role in ROLES), ("hr_test", "psnr_rgb")]
    cameras = [f"{role}: {'simulated camera' if simulated[role] else 'genuine photographs'}" for role in ROLES]
    faces, probes, people = (
        listed([f"{_count(results, first, role, name)} ({role})" for role in ROLES])
        for name in ("n_fake", "n_probes", "n_identities")
    )
    real, images = _count(results, first, "web", "n_real"), _count(results, first, "hr_test", "n_images")
    return Table(
        "summary",
        "",
        (
            *(Column(f"{role}_{kd}", f"distance, {role}<br>{kd} ×1000 ↓", 1, "lower") for role in ROLES),
            *(Column(f"{role}_rank1", f"rank-1, {role}<br>% ↑", 1, "higher") for role in ROLES),
            Column("psnr_rgb", "PSNR<br>dB ↑", 2, "higher"),
        ),
        tuple(
            (row.label, tuple(results.measure(row.method, *place) for place in places))
            for row in results.rows
            if not row.variant
        ),
        f"{'; '.join(cameras)}. Distance: kernel distance of {faces} super-resolved faces from {real} real"
        f" high-resolution ones. Rank-1: {probes} probes of {people} people. PSNR: {images} artificial low-resolution"
        " faces. [lo, hi]: 95% interval.",
        first="System",
    )


# --- Tables 1 to 3: every system -------------------------------------------------------------------------


def distance_table(results: Results) -> Table:
    """Table 1: distance between super-resolved genuine faces and high-resolution training faces."""
    fd, kd = results.dialect.fd, results.dialect.kd
    rows = [
        (row.label, (row.learned, *_distances(results, row.method, kd, fd, (row.fid_web, row.fid_cctv))))
        for row in results.rows
    ]
    variants = [row.label for row in results.rows if row.variant]
    of = f" The paper's figures of {listed(variants)} are from its ablations, Tables 4, 6 and 7." if variants else ""
    return Table(
        "table1_distance",
        "Table 1. Distance to real high-resolution faces",
        (LEARNED, *_distance_columns(kd, fd, N_REAL, results.dialect.comparable)),
        tuple(rows),
        f"N: super-resolved faces; N real: high-resolution training faces.{of}",
        tuple(_distance_claims(results, _systems(results.rows), _places(ROLES, (kd, fd)))),
    )


def _distance_claims(results: Results, systems: Sequence[Row], places: Sequence[Place]) -> list[Claim]:
    """CR against everything; what saw genuine faces against what did not; LRGAN against CycleGAN."""
    rows = {row.method: row for row in systems}
    claims = []
    if "cr" in rows:
        others = [row for row in systems if row.method != "cr"]
        claims += _claims(results, f"{rows['cr'].label} is nearer to real faces", "lower", "cr", others, places)
    near = [row for row in systems if row.method in NEAREST]
    pairs = [row for row in systems if row.method in PEERS and row.learned == PAIRS]
    if {row.method for row in near} - {"cr"}:
        verb = "are all" if len(near) > 1 else "is"
        text = f"{listed([row.label for row in near])}, which saw genuine faces, {verb} nearer to real faces"
        claims += _group_claims(results, text, near, pairs, places, ", which saw artificial ones only")
    if {"cyclegan", "lrgan"} <= set(rows):
        text = f"{rows['lrgan'].label} is nearer to real faces"
        claims += _claims(results, text, "lower", "lrgan", [rows["cyclegan"]], places)
    return claims


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
            _raw(row, f"{row.label} (raw LR)").label,
            (
                row.learned,
                *(results.measure(row.method, role, name) for role in roles for name, *_ in names),
                _reported(row.rank1),
            ),
        )
        for row in results.rows
    ]
    people = {role: results.measure(results.methods[0], role, "n_identities").value for role in roles}
    chances = [f"{100 / count:.1f} % ({role})" for role, count in people.items() if count]
    chance = f" Guessing gives a rank-1 of {listed(chances)}." if chances else ""
    systems = [_raw(row, "raw LR") for row in _systems(results.rows)]
    return Table(
        "table2_recognition",
        "Table 2. Recognition of super-resolved faces",
        (LEARNED, *columns, _paper_column("paper_rank1", "rank-1 %", False)),
        tuple(rows),
        f"CentreFace, gallery and probe faces both super-resolved; mean over the trials.{chance}",
        tuple(_recognition_claims(results, systems, [Place(role, "rank1", role, "rank-1") for role in roles])),
    )


def _recognition_claims(results: Results, systems: Sequence[Row], places: Sequence[Place]) -> list[Claim]:
    """CR against everything, then raw faces against the peers, on the side the paper finds each."""
    rows = {row.method: row for row in systems}
    claims = []
    if "cr" in rows:
        others = [row for row in systems if row.method != "cr"]
        text = f"{rows['cr'].label} is recognised better"
        claims += _claims(results, text, "higher", "cr", others, places, ("bicubic", *PEERS))
    if raw := rows.get("bicubic"):
        sides: tuple[tuple[Better, str], ...] = (("lower", "worse"), ("higher", "better"))
        for better, word in sides:
            others = [row for row in systems if row.method in PEERS and _paper_says(raw.rank1, row.rank1) == better]
            claims += _claims(results, f"raw LR is recognised {word}", better, "bicubic", others, places)
    return [claim if claim.where == "web" else replace(claim, paper=False) for claim in claims]  # Table 2 has one set


def _paper_says(one: float | None, other: float | None) -> Better | None:
    """On which side of another published number one lies."""
    if one is None or other is None or one == other:
        return None
    return "lower" if one < other else "higher"


def fidelity_table(results: Results) -> Table:
    """Table 3: fidelity on artificial low-resolution faces, whose truth is known."""
    names = (("psnr_rgb", "PSNR dB ↑", 2), ("ssim_rgb", "SSIM ↑", 4), ("psnr_y", "PSNR-Y dB ↑", 2))
    rows = []
    for row in results.rows:
        measures = [
            results.measure(row.method, "hr_test", name) for name in (*(name for name, *_ in names), "n_images")
        ]
        rows.append((row.label, (row.learned, *measures, _reported(row.psnr), _reported(row.ssim))))
    stage_1 = ", so here CR, stage 1 is its super-resolver alone" if "cr_stage1" in results.methods else ""
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
        f"Artificial faces skip the regulariser{stage_1}. RGB on 8 bits; Y is BT.601 luma. All methods see the same"
        " faces, so these intervals are wider than that of a paired difference would be.",
        tuple(_fidelity_claims(results, _systems(results.rows))),
    )


def _fidelity_claims(results: Results, systems: Sequence[Row]) -> list[Claim]:
    """CR and VDSR against the peers as the paper orders them; the lowest; CR against its own super-resolver."""
    rows = {row.method: row for row in systems}
    peers = [row for row in systems if row.method in PEERS]
    psnr, ssim = [Place("hr_test", "psnr_rgb")], [Place("hr_test", "ssim_rgb")]
    sides: tuple[Better, ...] = ("higher", "lower")
    claims = []
    for method in ("vdsr", "cr"):
        against = [row for row in systems if row.method in (*PEERS, "cr") and row.method not in ("vdsr", method)]
        for better in sides if method in rows else ():
            others = [row for row in against if _paper_says(rows[method].psnr, row.psnr) == better]
            text = f"{rows[method].label} has a {better} PSNR"
            claims += _claims(results, text, better, method, others, psnr, (*PEERS, "cr"))
    low = [row for row in peers if row.method in ("cyclegan", "lrgan")]
    rest = [row for row in systems if row.psnr is not None and row not in low]
    text = f"{listed([row.label for row in low])} {'have' if len(low) > 1 else 'has'} a lower PSNR"
    claims += _group_claims(results, text, low, rest, psnr, "")
    if "cr" in rows:
        claims += _claims(results, f"{rows['cr'].label} has a higher SSIM", "higher", "cr", peers, ssim)
    if {"cr", "sr_module"} <= set(rows):
        text = f"joint training costs no fidelity: {rows['cr'].label} scores higher"
        both = [Place("hr_test", "psnr_rgb", by="PSNR"), Place("hr_test", "ssim_rgb", by="SSIM")]
        claims += _claims(results, text, "higher", "cr", [rows["sr_module"]], both)
    return claims


# --- Table 5: low-resolution faces -----------------------------------------------------------------------


def _floor_caption(results: Results, kd: str, fd: str) -> str:
    """What the floor is, what of the genuine distance is not the camera's doing, and how often it holds the floor."""
    counts = " against ".join(_count(results, "genuine", "artificial", name) for name in ("n_real", "n_fake"))
    ratios = []
    for name in (kd, fd):
        floor = results.measure("genuine", "artificial", name).value
        genuine = {role: results.measure("genuine", role, name).value for role in ROLES}
        if floor is None or floor <= 0:
            ratios.append(f"none by {name}, whose floor is {'not measured' if floor is None else 'not above 0'}")
        elif known := [f"{role} {value / floor:.1f}" for role, value in genuine.items() if value is not None]:
            ratios.append(f"{', '.join(known)} by {name}")
    return (
        f"The floor is the distance between the two halves of the artificial faces ({counts}), which may show the same"
        " people; the genuine faces show others, and all these sets are small. So part of the genuine distance is due"
        f" to other people and small N, not to the camera. Genuine / floor: {'; '.join(ratios)}."
    )


FLOOR = "Artificial LR (floor)"
LR_ROWS = (
    ("genuine", "Genuine LR"),
    ("cr_stage1", "Regulated LR, stage 1"),
    ("cr", "Regulated LR, stage 2"),
)


def lr_space_table(results: Results) -> Table:
    """Table 5: distance between low-resolution faces, genuine or regulated, and artificial ones."""
    fd, kd = f"lr_{results.dialect.fd}", f"lr_{results.dialect.kd}"
    declared = [(method, label) for method, label in LR_ROWS if method in ("genuine", *results.methods)]
    rows: list[tuple[str, tuple[Cell, ...]]] = [
        (label, _distances(results, method, kd, fd, LR_SPACE.get(method, (None, None)))) for method, label in declared
    ]
    *floor, half = (results.measure("genuine", "artificial", name) for name in (kd, fd, "n_fake", "n_real"))
    rows.append((FLOOR, (*floor, *floor, half, None, None)))
    claims = [
        _claim(
            f"{label[0].lower()}{label[1:]} is nearer to artificial LR",
            "lower",
            place,
            results.measure(method, place.test_set, place.metric),
            results.measure("genuine", place.test_set, place.metric),
            "genuine LR",
        )
        for method, label in declared[1:]
        for place in _places(ROLES, (kd, fd))
    ]
    return Table(
        "table5_lr_space",
        "Table 5. Distance to artificial low-resolution faces, at 16x16",
        _distance_columns(kd, fd, Column("n_real", "N artificial"), results.dialect.comparable),
        tuple(rows),
        _floor_caption(results, kd, fd),
        tuple(claims),
        references=frozenset({FLOOR}),
        first="Faces",
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
        "The gap in the paper is 2.2 and 0.6 FID, less than what another training seed may change.",
    ),
}


PSEUDO_PAIRS = (
    " Beyond the paper, CR's joint training also learns from pseudo-genuine pairs (`sr_on_pseudo`), which the other row"
    " lacks: the gap is due to both."
)
IMAGE_GAN = (
    " Beyond the paper, stage 2 keeps the image GAN that ends the super-resolver's pretraining (`keep_sr_adv`): the gap"
    " to stage 1 is due to more of its steps as well."
)


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
        rows.append((label, _distances(results, method, kd, fd, (row.fid_web, row.fid_cctv))))
    claims = [
        Claim(
            variant.finding, role, name, results.measure("cr", role, name), results.measure(variant.method, role, name)
        )
        for variant in declared
        for role in ROLES
        for name in (kd, fd)
        if "cr" in labels
    ]
    beyond = PSEUDO_PAIRS if options and options.sr_on_pseudo and number != "7" else ""
    if options and options.keep_sr_adv and number == "6":
        beyond += IMAGE_GAN
    return Table(
        ablation.name,
        ablation.title,
        _distance_columns(kd, fd, N_REAL, results.dialect.comparable),
        tuple(rows),
        (ablation.caption + beyond).strip(),
        tuple(claims),
        first="Variant",
    )
