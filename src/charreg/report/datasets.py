"""What a run ran on: the source of every role, its faces by size, and what became of the photographs."""

from collections.abc import Mapping
from dataclasses import dataclass

from charreg.core.faces import open_faces
from charreg.core.params import ComposedPhotosOptions, Params, Source
from charreg.report.figures import Folders
from charreg.report.markup import Cell, Column, Table
from charreg.report.published import PAPER_SETS
from charreg.report.results import Measure, Results, measure


@dataclass(frozen=True)
class Role:
    """The faces of one role: where they are from, how many, and the counts its stage noted."""

    kind: str  # hr or lr
    name: str
    source: Source
    faces: int
    photos: int  # that gave a face
    people: int  # 0: the source names nobody
    read: int  # photographs the stage was given
    sizes: Mapping[str, int]  # faces by longer side of the detected box, px of the photographs; empty for HR
    rejected: Mapping[str, int]  # by reason
    converted: Mapping[str, int]  # photographs by what was converted
    composed: ComposedPhotosOptions | None = None  # what of, where the photographs are not of the packaged portraits

    @property
    def label(self) -> str:
        return f"{self.kind.upper()} {self.name}"

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
    roles = []
    for kind, base, sources in (("hr", folders.hr, params.hr_roles), ("lr", folders.lr, params.lr_roles)):
        for name, source in sources.items():
            faces = open_faces(folders.train / kind if name == "train" else base / name)
            photos = len(set(faces.index["photo"]))
            roles.append(
                Role(
                    kind=kind,
                    name=name,
                    source=source,
                    faces=len(faces),
                    photos=photos,
                    people=len({person for person in faces.identities if person}),
                    read=faces.meta.get("photos", photos),
                    sizes=faces.meta.get("side_histogram", {}),
                    rejected=faces.meta["rejections"],
                    converted=faces.meta.get("converted", {}),
                    composed=composed.get(source.path),
                )
            )
    return roles


def data_lines(roles: list[Role]) -> str:
    """The first lines of the report, one a role: source, simulated or genuine, faces, people."""
    lines = ["> **Data**, one line per role:"]
    for role in roles:
        people = f"{role.people:,} identities" if role.people else "identities unknown"
        photos = f"{role.photos:,} {'portraits' if role.kind == 'hr' else 'photographs'}"
        counts = f"{role.faces:,} faces, {people}, from {photos}"
        lines.append(f"> - **{role.label}:** {role.origin}; {counts} (paper: {PAPER_SETS[role.kind, role.name]})")
    return "\n".join(lines)


def size_table(roles: list[Role]) -> Table:
    """The size histogram of the genuine faces."""
    genuine = [role for role in roles if role.kind == "lr"]
    bins = sorted({size for role in genuine for size in role.sizes}, key=lambda size: int(size.partition("-")[0]))
    return Table(
        "sizes",
        "Size of the genuine faces",
        tuple(Column(f"px_{size}", f"{size} px") for size in bins),
        tuple((role.name, tuple(Measure(role.sizes.get(size, 0)) for size in bins)) for role in genuine),
        "Faces by the longer side of the detected box in the photograph, upper bounds excluded; all become 16x16.",
        first="Role",
    )


def rejection_table(roles: list[Role]) -> Table:
    """What became of the photographs: faces, rejections and conversions by reason."""
    return Table(
        "rejections",
        "Rejected and converted",
        (
            Column("photos", "photographs read"),
            Column("faces", "faces kept"),
            Column("rejected", "rejected, by reason"),
            Column("converted", "converted, by reason"),
        ),
        tuple(
            (
                role.label,
                (Measure(role.read), Measure(role.faces), _counted(role.rejected), _counted(role.converted)),
            )
            for role in roles
        ),
        "`score`, `face_too_small`, `face_too_large`, `hard` and `excluded` count detections, `near_duplicate` counts"
        " training faces that are test faces too, and every other reason counts photographs. Converted photographs are"
        " used.",
        first="Role",
    )


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"`{reason}` {count:,}" for reason, count in reasons.items()) or "none"


def detection_table(results: Results) -> Table:
    """Recall, precision and size of the faces detected in the photographs of each genuine set."""
    heads = (
        ("n_photos", "photographs", 0),
        ("n_faces", "faces", 0),
        ("n_true", "annotated faces", 0),
        ("recall", "recall", 3),
        ("precision", "precision", 3),
        ("mean_side", "mean side, px", 1),
    )
    rows: list[tuple[str, tuple[Cell, ...]]] = [
        (role, tuple(measure(numbers, name, {}, f"detection_{role}.json") for name, *_ in heads))
        for role, numbers in results.detection.items()
    ]
    return Table(
        "detection",
        "Detection of the small faces",
        tuple(Column(name, head, digits) for name, head, digits in heads),
        tuple(rows),
        "Recall is over the annotated faces of 12 to 24 px, precision over all faces kept.",
        first="Role",
    )
