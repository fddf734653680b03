"""Drop the training faces that are nearly faces of a test set."""

import argparse
from pathlib import Path

from charreg.duplicates import deduplicate
from charreg.errors import run
from charreg.faces import FaceWriter, open_faces
from charreg.files import output_folder, write_json
from charreg.params import read_params

READS = ("deduplicate",)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="a training set")
    parser.add_argument("--tests", type=Path, required=True, nargs="+", help="the test sets it must stay apart from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
    params = read_params(args.params, READS).deduplicate
    faces, tests = open_faces(args.faces), [open_faces(path) for path in args.tests]
    sizes = [array.shape[1] for array in (faces.images, faces.lr) if array is not None]
    with output_folder(args.out) as out, FaceWriter(out, *sizes) as writer:
        metrics = deduplicate(writer, faces, tests, params)
    write_json(args.metrics, metrics)


if __name__ == "__main__":
    run(main)
