"""Compose the crowd photographs of one role of portraits of your own, as `packaged_photos` does of shipped ones."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.files import output_folder
from charreg.core.params import read_params
from charreg.photos.composed import make_composed_photos
from charreg.photos.sources import find_photos

READS = ("seed", "packaged_photos", "composed_photos.{role}")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "raw", "out", choices={"role": ["train", "web", "cctv"]})
    params = read_params(args.params, [key.format(role=args.role) for key in READS])
    source = params.composed_photos[args.role]
    raw = find_photos(source.source, args.raw, source.split)
    with output_folder(args.out) as out:
        make_composed_photos(out, args.role, source, raw, params.packaged_photos, params.seed)


if __name__ == "__main__":
    run(main)
