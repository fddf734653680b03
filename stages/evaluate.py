"""Super-resolve the test faces with one method and measure them: distances, fidelity, who can still be recognised."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.files import output_folder, write_json
from charreg.core.methods import load_method, resolve_faces
from charreg.core.models import seed_folders
from charreg.core.tensors import compute_device
from charreg.metrics.benchmark import open_benchmark
from charreg.metrics.evaluate import evaluate_method, headline
from charreg.metrics.features import load_feature_network


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "models", "benchmark", "sr", "reports", words=["method"])
    device = compute_device()
    benchmark = open_benchmark(args.benchmark)
    with output_folder(args.sr / args.method) as out:
        for place, model in seed_folders(args.models / args.method).items():
            method = load_method(model, device)
            (out / place).mkdir(exist_ok=True)
            for name, faces in benchmark.tests.items():
                resolve_faces(method, faces, out / place, name, device)
    network = load_feature_network(benchmark.options, device)
    scores = evaluate_method(args.sr / args.method, benchmark, network, device)
    write_json(args.reports / "scores" / f"{args.method}.json", scores)
    write_json(args.reports / "metrics" / f"{args.method}.json", headline(scores))


if __name__ == "__main__":
    run(main)
