"""The paper's own figures, and the one list of row labels of every table and picture.

Source: Cheng, Zhu, Gong, "Characteristic Regularisation for Super-Resolving Face Images", WACV 2020,
Tables 1 to 7. A method that has no row here (one of your own) gets one from its name.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Learned = Literal["nothing", "artificial pairs", "genuine faces", ""]  # "": the report does not know
PAIRS: Final = "artificial pairs"
SYNTHETIC_BRANCH: Final = "(synthetic branch)"  # ends the label of a CSRI that saw no genuine face
GENUINE: Final = "genuine faces"  # beside artificial pairs or unpaired high-resolution faces


@dataclass(frozen=True)
class Row:
    """A row of the tables: its label, what it is, and what the paper reports for it (None: nothing)."""

    method: str
    label: str
    meaning: str
    learned: Learned
    fid_web: float | None = None  # Table 1, LR-PIPA; of the variants: Tables 4, 6 and 7
    fid_cctv: float | None = None  # Table 1, LR-DukeMTMC
    rank1: float | None = None  # Table 2, percent, LR-PIPA
    psnr: float | None = None  # Table 3, dB, Helen
    ssim: float | None = None
    variant: bool = False  # of CR: what it is compared with, and the paper's figures, are those of Tables 4, 6 and 7


ROWS = (
    Row("bicubic", "Bicubic", "enlargement only; the paper's raw LR in Table 2", "nothing", rank1=24.83),
    Row("vdsr", "VDSR", "20 layers that add detail to the enlarged face", PAIRS, 94.49, 229.56, 25.45, 26.31, 0.7918),
    Row("srgan", "SRGAN", "adversarial loss and content loss", PAIRS, 103.85, 232.38, 27.00, 25.10, 0.7873),
    Row("fsrnet", "FSRNet", "facial landmarks guide its training", PAIRS, 117.19, 218.30, 26.50, 25.10, 0.7234),
    Row("sicnn", "SICNN", "keeps the identity of the true face", PAIRS, 129.23, 223.08, 28.85, 26.10, 0.7986),
    Row("cyclegan", "CycleGAN", "cycle-consistent translation, unpaired", GENUINE, 33.62, 42.41, 25.12, 18.85, 0.6061),
    Row("csri", "CSRI", "recognises artificial and genuine faces", GENUINE, 104.68, 240.99, 29.59, 25.40, 0.7388),
    Row("lrgan", "LRGAN", "learns to degrade faces, then to undo it", GENUINE, 29.80, 31.20, 21.99, 21.88, 0.6869),
    Row("sr_module", "SR alone", "the pretrained super-resolver, without a regulariser", PAIRS),
    Row("cr_stage1", "CR, stage 1", "stage 1 untouched: the paper's W/O SR-RI", GENUINE, 111.01, 113.70, variant=True),
    Row("wo_cr", "W/O CR", "joint training without a regulariser", GENUINE, 133.30, 190.73, variant=True),
    Row("wo_ul", "W/O UL", "joint training without eq. 7", GENUINE, 25.30, 26.11, variant=True),
    Row("wo_sr_ri_joint", "W/O SR-RI, joint", "joint training, eq. 1 and 6", GENUINE, 111.01, 113.70, variant=True),
    Row("cr", "CR", "regulariser and super-resolver, trained jointly", GENUINE, 23.09, 25.56, 30.53, 25.50, 0.8184),
)

PEERS = ("vdsr", "srgan", "fsrnet", "sicnn", "cyclegan", "csri", "lrgan")  # the systems the paper compares CR with
RIVALS = ("cyclegan", "lrgan")  # peers that learn from genuine faces without pairs
NEAREST = (*RIVALS, "cr")  # Table 1: below all that learned from artificial pairs; CSRI is not

ROLES = {"web": "LR-PIPA", "cctv": "LR-DukeMTMC"}  # this project's name of a genuine test set: the paper's
PAPER_SETS = {"HR train": "CelebA", "HR test": "Helen", "LR train": "WIDER FACE"}
PAPER_SETS |= {f"LR {role}": paper for role, paper in ROLES.items()}

# Table 5, FID against artificial LR faces: LR-PIPA, LR-DukeMTMC
LR_SPACE = ({"genuine": 40.72, "cr_stage1": 19.49}, {"genuine": 86.23, "cr_stage1": 24.32})

# Complexity, on one Tesla P100; milliseconds are those of one image.
PARAMETERS = {"cyclegan": 21e6, "lrgan": 4.0e6, "cr": 2.7e6}
TRAINING_HOURS = {"cyclegan": 81, "lrgan": 72, "cr": 46}
MILLISECONDS = {"cyclegan": 150, "lrgan": 6.6, "cr": 7.5}


def row_of(method: str) -> Row:
    """The row of a method; one that the paper does not know is called by its name."""
    known = {row.method: row for row in ROWS}
    return known.get(method) or Row(method, method, "a method of your own", "")


def published(name: str) -> dict[str, float]:
    """What the paper reports as one of the numbers of a Row, by method."""
    return {row.method: value for row in ROWS if (value := getattr(row, name)) is not None}


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of every table: the paper's, then your own in the order given."""
    given = list(methods)
    known = [row.method for row in ROWS]
    return [method for method in known if method in given] + [method for method in given if method not in known]
