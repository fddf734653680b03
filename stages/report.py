"""Write the report of a run: report.md, its tables and its pictures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.params import read_all_params
from charreg.report.figures import Folders
from charreg.report.markdown import ReportInputs, write_report


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "scores", "complexity", "training", "sr", "hr", "lr", "train", "paper", "out")
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
