"""Find the genuine low-resolution faces of one role."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.faces import LR_SIZE, FaceWriter, open_faces
from charreg.core.files import output_folder, write_json
from charreg.core.params import read_params
from charreg.photos.contact import draw_faces, save_png
from charreg.photos.extraction import make_lr_faces, read_exclusions
from charreg.photos.gathering import PhotoScratch
from charreg.photos.sources import find_photos

READS = ("detection", "lr_faces", "lr_roles.{role}")


def main(argv: list[str] | None = None) -> None:
    args = arguments(
        __doc__, argv, "raw", "exclude", "out", "metrics", "scores", choices={"role": ["train", "web", "cctv"]}
    )
    params = read_params(args.params, [key.format(role=args.role) for key in READS])
    source = params.lr_roles[args.role]
    raw = find_photos(source.source, args.raw, source.split, source.stride)
    exclusions = read_exclusions(args.exclude)
    scratch = PhotoScratch(f"lr_faces@{args.role}", raw.photos, params, exclusions=exclusions)
    with scratch.hold():
        with output_folder(args.out) as out:
            with FaceWriter(out, LR_SIZE) as writer:
                scores = make_lr_faces(
                    writer, args.role, raw, source, params.detection, params.lr_faces, exclusions, scratch
                )
            save_png(out / "sheet.png", draw_faces(open_faces(out)))
        write_json(args.scores, scores)
        write_json(args.metrics, {name: scores[name] for name in ("recall", "precision") if name in scores})
        scratch.forget()


if __name__ == "__main__":
    run(main)
