"""Measure how far genuine LR faces are from artificial ones, and artificial ones from each other."""

import argparse
from pathlib import Path

from charreg import distributed
from charreg.errors import run
from charreg.evaluation import GENUINE_SETS, evaluate_genuine
from charreg.faces import open_faces
from charreg.files import write_json
from charreg.metrics.distances import open_reference
from charreg.metrics.features import load_feature_network
from charreg.params import read_params

READS = ("seed", "device", "evaluate")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    for path in ("reference", *GENUINE_SETS, "metrics"):
        parser.add_argument(f"--{path}", type=Path, required=True)
    args = parser.parse_args(argv)
    params = read_params(args.params, READS)
    network = load_feature_network(params.evaluate, distributed.start(params.device))
    genuine = {name: open_faces(getattr(args, name)) for name in GENUINE_SETS}
    reference = open_reference(args.reference, network)
    write_json(args.metrics, evaluate_genuine(genuine, reference, network, params.evaluate, params.seed))


if __name__ == "__main__":
    run(main)
