"""Find the genuine low-resolution faces of one role."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=["train", "web", "cctv"], required=True)
    parser.add_argument("--raw", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--exclude", type=Path, required=True, help="faces to leave out: `photo left top` a line")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True, help="recall and precision")
    parser.add_argument("--scores", type=Path, required=True, help="all that was counted")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
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
