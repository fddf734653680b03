"""Measure one method: distances from real faces, fidelity to the true ones, and who can still be recognised."""

import argparse
from pathlib import Path

from charreg import distributed
from charreg.errors import run
from charreg.evaluation import evaluate_method
from charreg.faces import open_faces
from charreg.files import write_json
from charreg.metrics.distances import open_reference
from charreg.metrics.features import load_feature_network
from charreg.metrics.identification import centreface_embedder
from charreg.models import load_model, part
from charreg.params import read_params

READS = ("seed", "device", "evaluate")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    for path in ("sr", "reference", "hr-test", "matcher", "metrics"):
        parser.add_argument(f"--{path}", type=Path, required=True)
    args = parser.parse_args(argv)
    params = read_params(args.params, READS)
    device = distributed.start(params.device)
    network = load_feature_network(params.evaluate, device)
    matcher = part(load_model(args.matcher), "centreface", args.matcher)
    found = evaluate_method(
        args.sr,
        open_faces(args.hr_test),
        open_reference(args.reference, network),
        network,
        centreface_embedder(matcher, device),
        params.evaluate,
        params.seed,
    )
    write_json(args.metrics, found)


if __name__ == "__main__":
    run(main)
