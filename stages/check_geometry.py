"""Check that artificial and genuine LR faces lie alike in their frames, before any GAN sees them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.faces import open_faces
from charreg.core.files import write_json
from charreg.core.params import read_params
from charreg.photos.contact import save_png
from charreg.photos.geometry import check_agreement, compare_geometry, draw_geometry, geometry_metrics

READS = ("geometry",)


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "hr", "lr", "scores", "figure")
    params = read_params(args.params, READS)
    hr, genuine = open_faces(args.hr), open_faces(args.lr)
    agreement = compare_geometry(hr, genuine)
    save_png(args.figure, draw_geometry(hr, genuine, agreement))  # written even when the check fails: to look at
    check_agreement(agreement, params.geometry.max_shift)
    if agreement.unknown:
        sys.stderr.write(f"check_geometry: {agreement.unknown} in {args.figure}\n")
    write_json(args.scores, geometry_metrics(agreement))


if __name__ == "__main__":
    run(main)
