"""The paper's own figures, and the one list of row labels of every table and picture.

Source: Cheng, Zhu, Gong, "Characteristic Regularisation for Super-Resolving Face Images", WACV 2020,
Tables 1 to 7. A later method becomes a row by standing in ROWS and in `methods` of params.yaml.
"""

from dataclasses import dataclass

from charreg.errors import CharregError


@dataclass(frozen=True)
class Row:
    """A row of the tables: its label, what it is, and what the paper reports for it (None: nothing)."""

    method: str
    label: str
    meaning: str
    fid_web: float | None = None  # Table 1, LR-PIPA
    fid_cctv: float | None = None  # Table 1, LR-DukeMTMC
    rank1: float | None = None  # Table 2, percent, LR-PIPA
    psnr: float | None = None  # Table 3, dB, Helen
    ssim: float | None = None


ROWS = (
    Row("bicubic", "Bicubic", "enlargement only; the paper's raw LR in Table 2", rank1=24.83),
    Row("sr_module", "SR alone", "super-resolver of stage 1, no regulariser"),
    Row(
        "cr_stage1",
        "CR, stage 1",
        "regulariser and super-resolver of stage 1, the paper's W/O SR-RI",
        fid_web=111.01,
        fid_cctv=113.70,
    ),
    Row("cr", "CR", "both after joint training", 23.09, 25.56, 30.53, 25.50, 0.8184),
)

ROLES = {"web": "LR-PIPA", "cctv": "LR-DukeMTMC"}  # this project's name of a genuine test set: the paper's
PAPER_SETS = {
    ("hr", "train"): "CelebA",
    ("hr", "test"): "Helen",
    ("lr", "train"): "WIDER FACE",
    ("lr", "web"): ROLES["web"],
    ("lr", "cctv"): ROLES["cctv"],
}

LR_SPACE = {  # Table 5, FID against artificial LR faces: LR-PIPA, LR-DukeMTMC
    "genuine": (40.72, 86.23),
    "cr_stage1": (19.49, 24.32),
}

COST = {"parameters": 2.7e6, "training_hours": 46.0, "milliseconds": 7.5}  # CR on one Tesla P100


def row_of(method: str) -> Row:
    """The row of a declared method; CharregError for a method nobody has labelled."""
    for row in ROWS:
        if row.method == method:
            return row
    known = ", ".join(row.method for row in ROWS)
    raise CharregError(f"{method}: no row in the report, found rows for {known}; add it to report/published.py")
