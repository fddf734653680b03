"""What a run ran on: the source of every role, what became of its photographs, and the checks made of the faces."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from charreg.core.faces import FaceSet, open_faces
from charreg.core.params import ComposedPhotosOptions, Params, Source
from charreg.report.figures import Folders
from charreg.report.markup import Column, Table
from charreg.report.published import PAPER_SETS, ROLES
from charreg.report.results import Measure, Results
from charreg.report.tables import count, measured
from charreg.report.verdicts import listed


@dataclass(frozen=True)
class Role:
    """The faces of one role and where they are from."""

    kind: str  # hr or lr
    name: str
    source: Source
    faces: FaceSet
    composed: ComposedPhotosOptions | None = None  # what of, where the photographs are not of the packaged portraits

    @property
    def label(self) -> str:
        return f"{self.kind.upper()} {self.name}"

    @property
    def photos(self) -> int:
        """The photographs or portraits that gave a face."""
        return len(set(self.faces.index["photo"]))

    @property
    def origin(self) -> str:
        """What the faces were cut from, in words that leave no doubt about a simulation."""
        if self.composed is not None:
            origin = f"photographs composed of portraits of {self.composed.source} `{self.composed.path}`"
        elif self.source.source == "packaged":
            origin = f"packaged {'portraits' if self.kind == 'hr' else 'photographs composed of portraits'} (ORL)"
        else:
            origin = f"{self.source.source} `{self.source.path}`"
        return f"{origin}, {'SIMULATED camera' if self.source.simulated else 'genuine photographs'}"


def read_roles(params: Params, folders: Folders) -> list[Role]:
    """Every role of the run, high resolution first; CharregError names a missing or damaged face set."""
    composed = {f"data/composed/{name}": photos for name, photos in params.composed_photos.items()}
    bases = (("hr", folders.hr, params.hr_roles), ("lr", folders.lr, params.lr_roles))
    return [
        Role(
            kind,
            name,
            source,
            open_faces(folders.train / kind if name == "train" else base / name),
            composed.get(source.path),
        )
        for kind, base, sources in bases
        for name, source in sources.items()
    ]


def data_lines(roles: Iterable[Role]) -> str:
    """The first lines of the report, one a role: source, simulated or genuine, faces, people."""
    lines = ["> **Data**, one line per role:"]
    for role in roles:
        people = len({person for person in role.faces.identities if person})
        known = f"{people:,} identities" if people else "identities unknown"
        photos = f"{role.photos:,} {'portraits' if role.kind == 'hr' else 'photographs'}"
        counts = f"{len(role.faces):,} faces, {known}, from {photos} (paper: {PAPER_SETS[role.label]})"
        lines.append(f"> - **{role.label}:** {role.origin}; {counts}")
    return "\n".join(lines)


def size_table(roles: Iterable[Role]) -> Table:
    """The genuine faces by the longer side of the detected box, px of the photographs."""
    sizes = {role.name: role.faces.meta.get("side_histogram", {}) for role in roles if role.kind == "lr"}
    bins = sorted({size for found in sizes.values() for size in found}, key=lambda size: int(size.partition("-")[0]))
    counts = {size: {name: Measure(found.get(size, 0)) for name, found in sizes.items()} for size in bins}
    return Table(
        "sizes",
        "Size of the genuine faces",
        "Role",
        {name: name for name in sizes},
        [Column(f"px_{size}", f"{size} px", counts[size].get) for size in bins],
        "Faces by the longer side of the detected box in the photograph, upper bounds excluded; all become 16x16.",
    )


def rejection_table(roles: Iterable[Role]) -> Table:
    """What became of the photographs: faces, rejections and conversions by reason."""
    by_label = {role.label: role for role in roles}

    def counted(label: str, name: str) -> str:
        reasons = by_label[label].faces.meta.get(name, {})
        return ", ".join(f"`{reason}` {count:,}" for reason, count in reasons.items()) or "none"

    def photos(label: str) -> Measure:
        role = by_label[label]
        return Measure(role.faces.meta.get("photos", role.photos))

    return Table(
        "rejections",
        "Rejected and converted",
        "Role",
        {label: label for label in by_label},
        [
            Column("photos", "photographs read", photos),
            Column("faces", "faces kept", lambda label: Measure(len(by_label[label].faces))),
            Column("rejected", "rejected, by reason", partial(counted, name="rejections")),
            Column("converted", "converted, by reason", partial(counted, name="converted")),
        ],
        "`score`, `face_too_small`, `face_too_large`, `hard` and `excluded` count detections, `near_duplicate` counts"
        " training faces that are test faces too, and every other reason counts photographs. Converted photographs are"
        " used.",
    )


def detection_table(results: Results) -> Table:
    """Recall, precision and size of the faces detected in the photographs of each genuine set."""
    return Table(
        "detection",
        "Detection of the small faces",
        "Role",
        {f"detection_{role}": role for role in ("train", *ROLES)},
        [
            measured(results, "", "n_photos", "photographs"),
            measured(results, "", "n_faces", "faces"),
            measured(results, "", "n_true", "annotated faces"),
            measured(results, "", "recall", "recall", 3),
            measured(results, "", "precision", "precision", 3),
            measured(results, "", "mean_side", "mean side, px", 1),
        ],
        "Recall is over the annotated faces of 12 to 24 px, precision over all faces kept.",
    )


def matcher_table(results: Results) -> Table:
    """How well the matcher tells people apart whom it has not seen."""
    return Table(
        "recogniser",
        "The matcher on high-resolution faces it was not trained on",
        "Network",
        {"matcher": "CentreFace"},
        [
            measured(results, "", "rank1", "rank-1 %", 2),
            measured(results, "", "rank1_std", "std over trials", 2),
            measured(results, "", "auc", "verification AUC", 4),
            measured(results, "", "n_identities", "people"),
            measured(results, "", "n_probes", "probes"),
            measured(results, "", "n_pairs", "pairs"),
        ],
        "High-resolution against high-resolution faces: what Table 2 is to be read against. The matcher only measures;"
        " the losses use another CentreFace.",
    )


def geometry_table(results: Results, max_shift: float) -> Table:
    """Mean eyes of artificial and genuine faces: the regulariser must not learn to zoom or shift."""

    def cell(point: str, kind: str) -> Measure:
        return results.measure("geometry", "", f"{kind}_{point}")

    points = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y", "eye_distance")
    worst = results.measure("geometry", "", "worst_shift")
    found = f"unknown ({worst.reason})" if worst.value is None else f"{worst.value:.2f} px"
    counts = [f"{count(results, 'geometry', '', f'n_{kind}')} {kind}" for kind in ("artificial", "genuine")]
    return Table(
        "geometry",
        "Geometry of artificial and genuine faces, px at 16x16",
        "Mean",
        {point: point.replace("_", " ") for point in points},
        [Column(kind, f"{kind} LR", partial(cell, kind=kind), 2) for kind in ("artificial", "genuine")],
        f"Of {listed(counts)} faces. Largest difference: {found}; the inverse regulariser is trained only when it is at"
        f" most {max_shift:g} px.",
    )
