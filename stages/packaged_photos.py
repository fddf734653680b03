"""Compose the packaged photographs: portraits for the HR sets, crowd photographs for the genuine LR sets."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.files import output_folder
from charreg.core.params import read_params
from charreg.photos.crowds import make_packaged_photos

READS = ("seed", "packaged_photos")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "out")
    params = read_params(args.params, READS)
    with output_folder(args.out) as out:
        make_packaged_photos(out, params.packaged_photos, params.seed)


if __name__ == "__main__":
    run(main)
