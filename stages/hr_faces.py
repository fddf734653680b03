"""Crop the high-resolution faces of one role and make their artificial low-resolution faces."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.faces import HR_SIZE, LR_SIZE, FaceWriter, open_faces
from charreg.core.files import output_folder
from charreg.core.params import read_params
from charreg.photos.contact import draw_faces, save_png
from charreg.photos.extraction import make_hr_faces
from charreg.photos.gathering import PhotoScratch
from charreg.photos.sources import find_photos

READS = ("seed", "detection", "hr_faces", "hr_roles.{role}")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "raw", "out", choices={"role": ["train", "test"]})
    params = read_params(args.params, [key.format(role=args.role) for key in READS])
    source = params.hr_roles[args.role]
    raw = find_photos(source.source, args.raw, source.split)
    scratch = PhotoScratch(f"hr_faces@{args.role}", raw.photos, params)
    with scratch.hold():
        with output_folder(args.out) as out:
            with FaceWriter(out, HR_SIZE, LR_SIZE) as writer:
                make_hr_faces(writer, args.role, source, params.detection, params.hr_faces, params.seed, scratch)
            save_png(out / "sheet.png", draw_faces(open_faces(out), limit=200))
        scratch.forget()


if __name__ == "__main__":
    run(main)
