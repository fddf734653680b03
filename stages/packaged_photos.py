"""Compose the packaged photographs: portraits for the HR sets, crowd photographs for the genuine LR sets."""

import argparse
from pathlib import Path

from charreg.errors import run
from charreg.files import output_folder
from charreg.packaged import make_packaged_photos
from charreg.params import read_params

READS = ("seed", "packaged_photos")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
    params = read_params(args.params, READS)
    with output_folder(args.out) as out:
        make_packaged_photos(out, params.packaged_photos, params.seed)


if __name__ == "__main__":
    run(main)
