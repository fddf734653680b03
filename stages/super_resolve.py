"""Super-resolve the genuine sets and the HR-test set's artificial faces with one method."""

import argparse
from pathlib import Path

from charreg import distributed
from charreg.errors import run
from charreg.faces import open_faces
from charreg.files import output_folder
from charreg.methods import load_method, resolve_faces
from charreg.models import seed_folders
from charreg.params import read_params

READS = ("device",)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--model", type=Path, required=True)
    for role in ("web", "cctv", "hr-test"):
        parser.add_argument(f"--{role}", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--characteristic-module", choices=("auto", "on", "off"), default="auto",
        help="auto: as the face set's domain says (genuine: on, artificial: off)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    device = distributed.start(read_params(args.params, READS).device)
    with output_folder(args.out) as out:
        for place, model in seed_folders(args.model).items():
            method = load_method(model, device)
            (out / place).mkdir(exist_ok=True)
            for name in ("web", "cctv", "hr_test"):
                faces = open_faces(getattr(args, name))
                resolve_faces(method, faces, out / place, name, device, args.characteristic_module)


if __name__ == "__main__":
    run(main)
