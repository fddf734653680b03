"""The faces to train on: without those that are test faces too, and lying alike in their frames."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.faces import FaceWriter, open_faces
from charreg.core.files import output_folder, write_json
from charreg.core.params import read_params
from charreg.photos.contact import save_png
from charreg.photos.duplicates import count_repeats, deduplicate
from charreg.photos.geometry import check_agreement, compare_geometry, draw_geometry, geometry_metrics

READS = ("deduplicate", "geometry")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "hr", "lr", "out", "scores", "geometry", "figure")
    params = read_params(args.params, READS)
    tests = [open_faces(path) for path in (args.hr / "test", args.lr / "web", args.lr / "cctv")]
    for faces in tests:
        if repeats := count_repeats(faces):
            sys.stderr.write(f"{faces.folder}: {repeats} faces are there twice and will be measured twice\n")
    scores = {}
    with output_folder(args.out) as out:
        for kind, folder in (("hr", args.hr), ("lr", args.lr)):
            faces = open_faces(folder / "train")
            sizes = [array.shape[1] for array in (faces.images, faces.lr) if array is not None]
            (out / kind).mkdir()
            with FaceWriter(out / kind, *sizes) as writer:
                scores[kind] = deduplicate(writer, faces, tests, params.deduplicate)
        hr, genuine = open_faces(out / "hr"), open_faces(out / "lr")
        agreement = compare_geometry(hr, genuine)
        save_png(args.figure, draw_geometry(hr, genuine, agreement))  # written even when the check fails: to look at
        check_agreement(agreement, params.geometry.max_shift)
    if agreement.unknown:
        sys.stderr.write(f"train_faces: {agreement.unknown} in {args.figure}\n")
    write_json(args.scores, scores)
    write_json(args.geometry, geometry_metrics(agreement))


if __name__ == "__main__":
    run(main)
