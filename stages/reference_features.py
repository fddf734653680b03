"""Look once, with the feature network, at the HR training faces and their artificial LR faces."""

import argparse
from pathlib import Path

from charreg import distributed
from charreg.errors import run
from charreg.faces import open_faces
from charreg.files import output_folder
from charreg.metrics.distances import write_reference
from charreg.metrics.features import load_feature_network
from charreg.params import read_params

READS = ("device", "evaluate")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--hr", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    params = read_params(args.params, READS)
    network = load_feature_network(params.evaluate, distributed.start(params.device))
    with output_folder(args.out) as out:
        write_reference(open_faces(args.hr), network, params.evaluate, out)


if __name__ == "__main__":
    run(main)
