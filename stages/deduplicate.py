"""Drop the training faces that are nearly faces of a test set."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.faces import FaceWriter, open_faces
from charreg.core.files import output_folder, write_json
from charreg.core.params import read_params
from charreg.photos.duplicates import deduplicate

READS = ("deduplicate",)


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "hr", "lr", "out", "scores")
    params = read_params(args.params, READS).deduplicate
    tests = [open_faces(path) for path in (args.hr / "test", args.lr / "web", args.lr / "cctv")]
    scores = {}
    with output_folder(args.out) as out:
        for kind, folder in (("hr", args.hr), ("lr", args.lr)):
            faces = open_faces(folder / "train")
            sizes = [array.shape[1] for array in (faces.images, faces.lr) if array is not None]
            (out / kind).mkdir()
            with FaceWriter(out / kind, *sizes) as writer:
                scores[kind] = deduplicate(writer, faces, tests, params)
    write_json(args.scores, scores)


if __name__ == "__main__":
    run(main)
