"""Write the report of a run: report.md, its tables and its pictures."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.errors import run
from charreg.core.params import read_all_params
from charreg.report.figures import Folders
from charreg.report.markdown import ReportInputs, write_report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    for name in ("scores", "complexity", "training", "sr", "hr", "lr", "train", "paper", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args(argv)
    params = read_all_params(args.params)
    inputs = ReportInputs(
        scores=args.scores,
        complexity=args.complexity,
        training=args.training,
        paper=args.paper,
        faces=Folders(sr=args.sr, hr=args.hr, lr=args.lr, train=args.train),
    )
    write_report(inputs, params, args.out)


if __name__ == "__main__":
    run(main)
