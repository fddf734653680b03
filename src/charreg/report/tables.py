"""The paper's Tables 1 to 7 and the summary of them, built from results, each with the claims judged under it."""

from collections.abc import Iterable, Mapping
from functools import partial

from charreg.core.params import FinetuneJointOptions
from charreg.report.markup import Column, Table
from charreg.report.published import LR_SPACE, NEAREST, PAIRS, PEERS, RIVALS, ROLES, published
from charreg.report.results import Measure, Results
from charreg.report.verdicts import Better, Comparison, Place, listed


def measured(results: Results, test_set: str, name: str, head: str, digits: int = 0, better: str = "") -> Column:
    """A column of a metric on a test set; its head names a genuine one."""
    key, head = (f"{test_set}_{name}", f"{test_set}<br>{head}") if test_set in ROLES else (name, head)
    return Column(key, head, lambda method: results.measure(method, test_set, name), digits, better)


def reported(
    values: Mapping[str, float], key: str, head: str, digits: int = 2, remark: str = "reported, not comparable"
) -> Column:
    """A column of the paper's numbers, by method, blank where it has none."""
    cells = {method: Measure(value) for method, value in values.items()}
    return Column(f"paper_{key}", f"paper {head} ({remark})", cells.get, digits)


def _learned(results: Results) -> Column:
    return Column("learned_from", "learned from", {row.method: row.learned for row in results.rows}.get)


def _systems(results: Results) -> dict[str, str]:
    """The methods, with their labels, whose order in Tables 1 to 3 is judged.

    Not the variants of CR, whose comparisons are Tables 4, 6 and 7, nor methods of one's own, which the paper does
    not know.
    """
    return {row.method: row.label for row in results.rows if not row.variant and row.learned}


def _place(results: Results, test_set: str, name: str, where: str = "", by: str = "", paper: bool = True) -> Place:
    return Place(partial(results.measure, test_set=test_set, name=name), where, by, paper)


def _distance_places(results: Results, prefix: str = "") -> list[Place]:
    names = (f"{prefix}{results.dialect.kd}", f"{prefix}{results.dialect.fd}")
    return [_place(results, role, name, role, name) for role in ROLES for name in names]


def count(results: Results, method: str, test_set: str, name: str) -> str:
    """A number of faces or people as text, `?` where it is not known."""
    number = results.measure(method, test_set, name).value
    return "?" if number is None else f"{number:,.0f}"


# --- the summary -----------------------------------------------------------------------------------------


def summary_table(results: Results, simulated: Mapping[str, bool]) -> Table:
    """The systems in a few numbers: distance and rank-1 on both genuine test sets, PSNR on artificial faces."""
    first, kd = results.methods[0], results.dialect.kd
    cameras = [f"{role}: {'simulated camera' if simulated[role] else 'genuine photographs'}" for role in ROLES]
    faces, probes, people = (
        listed([f"{count(results, first, role, name)} ({role})" for role in ROLES])
        for name in ("n_fake", "n_probes", "n_identities")
    )
    real, images = count(results, first, "web", "n_real"), count(results, first, "hr_test", "n_images")
    return Table(
        "summary",
        "",
        "System",
        {row.method: row.label for row in results.rows if not row.variant},
        [
            *(measured(results, role, kd, f"{kd} ×1000 ↓", 1, "lower") for role in ROLES),
            *(measured(results, role, "rank1", "rank-1 % ↑", 1, "higher") for role in ROLES),
            measured(results, "hr_test", "psnr_rgb", "PSNR dB ↑", 2, "higher"),
        ],
        f"{'; '.join(cameras)}. {kd}: kernel distance of {faces} super-resolved faces from {real} real"
        f" high-resolution ones. Rank-1: {probes} probes of {people} people. PSNR: {images} artificial low-resolution"
        " faces. [lo, hi]: 95% interval.",
    )


# --- Tables of distances: 1, and 4 to 7 ------------------------------------------------------------------


def _distance_columns(
    results: Results, papers: Iterable[Mapping[str, float]], prefix: str = "", real: str = "N real"
) -> list[Column]:
    """Both distances and the number of faces of every genuine test set, the number they are measured against, and the
    paper's FID on every set."""
    kd, fd = (prefix + name for name in (results.dialect.kd, results.dialect.fd))
    columns = []
    for role in ROLES:
        columns += [
            measured(results, role, kd, f"{kd} ×1000 ↓", 1, "lower"),
            measured(results, role, fd, f"{fd} ↓", 1, "lower"),
            measured(results, role, "n_fake", "N"),
        ]
    columns.append(Column("n_real", real, partial(results.measure, test_set="web", name="n_real")))
    remark = f"reported, {'other faces' if results.dialect.comparable else 'not comparable'}"
    for (role, paper), values in zip(ROLES.items(), papers, strict=True):
        columns.append(reported(values, f"fid_{role}", f"FID {paper}", remark=remark))
    return columns


FIDS = (published("fid_web"), published("fid_cctv"))  # of the variants: Tables 4, 6 and 7


def distance_table(results: Results) -> Table:
    """Table 1: distance between super-resolved genuine faces and high-resolution training faces.

    Judged: CR against everything; what saw genuine faces against what did not; LRGAN against CycleGAN.
    """
    variants = [row.label for row in results.rows if row.variant]
    of = f" The paper's figures of {listed(variants)} are from its ablations, Tables 4, 6 and 7." if variants else ""
    systems = _systems(results)
    nearer = Comparison(systems, FIDS[0], _distance_places(results))
    claims = nearer.each("{} is nearer to real faces", "lower", "cr", systems)
    if any(rival in systems for rival in RIVALS):
        pairs = [row.method for row in results.rows if row.method in PEERS and row.learned == PAIRS]
        claims += nearer.claims("what saw genuine faces ({}) is nearer to real faces", "lower", NEAREST, pairs)
    claims += nearer.each("{} is nearer to real faces", "lower", "lrgan", ["cyclegan"])
    return Table(
        "table1_distance",
        "Table 1. Distance to real high-resolution faces",
        "Method",
        results.labels,
        [_learned(results), *_distance_columns(results, FIDS)],
        f"N: super-resolved faces; N real: high-resolution training faces.{of}",
        claims,
    )


def lr_space_table(results: Results) -> Table:
    """Table 5: distance between low-resolution faces, genuine or regulated, and artificial ones."""
    regulated = {"cr_stage1": "Regulated LR, stage 1", "cr": "Regulated LR, stage 2"}
    rows = {"genuine": "Genuine LR"} | {method: regulated[method] for method in regulated if method in results.methods}
    nearer = Comparison(rows, LR_SPACE[0], _distance_places(results, "lr_"))
    return Table(
        "table5_lr_space",
        "Table 5. Distance to artificial low-resolution faces, at 16x16",
        "Faces",
        rows | {"floor": "Artificial LR (floor)"},
        _distance_columns(results, LR_SPACE, "lr_", "N artificial"),
        _floor_caption(results),
        [
            claim
            for method in regulated
            for claim in nearer.each("{} is nearer to artificial LR", "lower", method, ["genuine"])
        ],
        reference="floor",
    )


def _floor_caption(results: Results) -> str:
    """What the floor is, what of the genuine distance is not the camera's doing, and how often it holds the floor."""
    counts = " against ".join(count(results, "floor", "web", name) for name in ("n_real", "n_fake"))
    ratios = []
    for place in _distance_places(results, "lr_"):
        floor, genuine = place.find("floor").value, place.find("genuine").value
        if floor is None or genuine is None or floor <= 0:
            ratios.append(f"{place.where} unknown by {place.by} (not measured, or no floor above 0)")
        else:
            ratios.append(f"{place.where} {genuine / floor:.1f} by {place.by}")
    return (
        f"The floor is the distance between the two halves of the artificial faces ({counts}), which may show the same"
        " people; the genuine faces show others, and all these sets are small. So part of the genuine distance is due"
        f" to other people and small N, not to the camera. Genuine / floor: {'; '.join(ratios)}."
    )


def _ablation(
    results: Results, name: str, title: str, variants: Mapping[str, tuple[str, str]], full: str, caption: str
) -> Table:
    """CR without and with a part; without rows when no variant is declared.

    variants: of CR, by method: the label of the row, and what the part does if the finding holds; full: CR's label.
    """
    rows = {method: label for method, (label, _) in variants.items() if method in results.methods}
    if rows and "cr" in results.methods:
        rows["cr"] = full
    nearer = Comparison(dict.fromkeys(rows, ""), FIDS[0], _distance_places(results))
    claims = [claim for method, (_, text) in variants.items() for claim in nearer.each(text, "lower", "cr", [method])]
    return Table(name, title, "Variant", rows, _distance_columns(results, FIDS), caption.strip(), claims)


def ablation_tables(results: Results, options: FinetuneJointOptions) -> list[Table]:
    """Tables 4, 6 and 7.

    options: of stage 2, whose terms beyond the paper a caption names where the row of CR alone gains by them.
    """
    pseudo = (
        " Beyond the paper, CR's joint training also learns from pseudo-genuine pairs (`sr_on_pseudo`), which the other"
        " row lacks: the gap is due to both."
    )
    image_gan = (
        " Beyond the paper, stage 2 keeps the image GAN that ends the super-resolver's pretraining (`keep_sr_adv`): the"
        " gap to stage 1 is due to more of its steps as well."
    )
    pseudo, image_gan = pseudo if options.sr_on_pseudo else "", image_gan if options.keep_sr_adv else ""
    nearer = "brings the faces nearer to real ones"
    return [
        _ablation(
            results,
            "table4_regularisation",
            "Table 4. Characteristic regularisation",
            {"wo_cr": ("Without (W/O CR)", f"regularisation {nearer}")},
            "With (CR)",
            "Without: the super-resolver sees genuine faces as they are, in the joint training and here; its losses are"
            f" eq. 1, eq. 7 on those faces, and eq. 8.{pseudo}",
        ),
        _ablation(
            results,
            "table6_stage2",
            "Table 6. Fine-tuning the super-resolver on regulated faces",
            {
                "cr_stage1": ("Without stage 2 (W/O SR-RI)", f"stage 2 {nearer}"),
                "wo_sr_ri_joint": (
                    "Stage 2 on eq. 1 and 6 alone (W/O SR-RI, other reading)",
                    "the regulated faces of stage 2 bring the faces nearer to real ones",
                ),
            },
            "With stage 2 (CR)",
            pseudo + image_gan,
        ),
        _ablation(
            results,
            "table7_unsupervised",
            "Table 7. Unsupervised SR loss (eq. 7)",
            {"wo_ul": ("Without (W/O UL)", f"the unsupervised loss {nearer}")},
            "With (CR)",
            "The gap in the paper is 2.2 and 0.6 FID, less than what another training seed may change.",
        ),
    ]


# --- Tables 2 and 3 --------------------------------------------------------------------------------------


def recognition_table(results: Results) -> Table:
    """Table 2: identification of super-resolved genuine faces, gallery and probes both super-resolved.

    Judged: CR against everything, then raw faces against the peers, on the side the paper finds each.
    """
    chances = []
    columns = [_learned(results)]
    for role in ROLES:
        columns += [
            measured(results, role, "rank1", "rank-1 % ↑", 2, "higher"),
            measured(results, role, "rank1_std", "std over trials", 2),
            measured(results, role, "rank5", "rank-5 % ↑", 2, "higher"),
            measured(results, role, "rank20", "rank-20 % ↑", 2, "higher"),
            measured(results, role, "n_identities", "identities"),
            measured(results, role, "n_probes", "probes"),
        ]
        people = results.measure(results.methods[0], role, "n_identities").value
        chances += [f"{100 / people:.1f} % ({role})"] if people else []
    systems, rank1 = _systems(results), published("rank1")
    places = [_place(results, role, "rank1", role, "rank-1", paper=role == "web") for role in ROLES]
    better = Comparison(systems, rank1, places)
    sides: dict[Better, str] = {"lower": "{} is recognised worse", "higher": "{} is recognised better"}
    return Table(
        "table2_recognition",
        "Table 2. Recognition of super-resolved faces",
        "Method",
        results.labels,
        [*columns, reported(rank1, "rank1", f"rank-1 % {ROLES['web']}")],
        "CentreFace, gallery and probe faces both super-resolved (bicubic: raw LR in the paper); mean over the trials."
        + (f" Guessing gives a rank-1 of {listed(chances)}." if chances else ""),
        [
            *better.each("{} is recognised better", "higher", "cr", systems),
            *better.as_published(sides, "bicubic", PEERS),
        ],
    )


def fidelity_table(results: Results) -> Table:
    """Table 3: fidelity on artificial low-resolution faces, whose truth is known.

    Judged: CR and VDSR against the peers as the paper orders them; the lowest; CR against its own super-resolver.
    """
    stage_1 = ", so here CR, stage 1 is its super-resolver alone" if "cr_stage1" in results.methods else ""
    systems, psnr, ssim = _systems(results), published("psnr"), published("ssim")
    by_psnr = Comparison(systems, psnr, [_place(results, "hr_test", "psnr_rgb")])
    by_ssim = Comparison(systems, ssim, [_place(results, "hr_test", "ssim_rgb")])
    sides: dict[Better, str] = {"higher": "{} has a higher PSNR", "lower": "{} has a lower PSNR"}
    rest = [method for method in systems if method in psnr and method not in RIVALS]
    return Table(
        "table3_fidelity",
        "Table 3. Fidelity on artificial low-resolution faces (HR test; paper: Helen)",
        "Method",
        results.labels,
        [
            _learned(results),
            measured(results, "hr_test", "psnr_rgb", "PSNR dB ↑", 2, "higher"),
            measured(results, "hr_test", "ssim_rgb", "SSIM ↑", 4, "higher"),
            measured(results, "hr_test", "psnr_y", "PSNR-Y dB ↑", 2, "higher"),
            measured(results, "hr_test", "n_images", "N"),
            reported(psnr, "psnr", "PSNR Helen"),
            reported(ssim, "ssim", "SSIM Helen", 4),
        ],
        f"Artificial faces skip the regulariser{stage_1}. RGB on 8 bits; Y is BT.601 luma. All methods see the same"
        " faces, so these intervals are wider than that of a paired difference would be.",
        [
            *by_psnr.as_published(sides, "vdsr", [*PEERS, "cr"]),
            *by_psnr.as_published(sides, "cr", [peer for peer in PEERS if peer != "vdsr"]),
            *by_psnr.claims("what learned without pairs ({}) has a lower PSNR", "lower", RIVALS, rest),
            *by_ssim.each("{} has a higher SSIM", "higher", "cr", PEERS),
            *by_psnr.each("joint training costs no fidelity: {} has a higher PSNR", "higher", "cr", ["sr_module"]),
            *by_ssim.each("joint training costs no fidelity: {} has a higher SSIM", "higher", "cr", ["sr_module"]),
        ],
    )
