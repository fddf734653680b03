"""Put together what every method is measured with: test faces, reference features, recogniser, protocol."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.faces import open_faces
from charreg.core.files import output_folder, write_json
from charreg.core.params import read_params
from charreg.core.tensors import compute_device
from charreg.metrics.benchmark import open_benchmark, write_benchmark
from charreg.metrics.evaluate import GENUINE_SETS, evaluate_genuine
from charreg.metrics.features import load_feature_network

READS = ("seed", "evaluate")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "train", "hr", "lr", "matcher", "out", "scores")
    params = read_params(args.params, READS)
    network = load_feature_network(params.evaluate, compute_device())
    tests = {"hr_test": args.hr / "test", **{name: args.lr / name for name in GENUINE_SETS}}
    with output_folder(args.out) as out:
        write_benchmark(out, open_faces(args.train), tests, args.matcher, network, params.evaluate, params.seed)
    write_json(args.scores, evaluate_genuine(open_benchmark(args.out), network))


if __name__ == "__main__":
    run(main)
