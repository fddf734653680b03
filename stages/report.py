"""Write the report of a run: report.md, its tables and its pictures."""

import argparse
from pathlib import Path

from charreg.errors import run
from charreg.params import read_params
from charreg.report.figures import Folders
from charreg.report.markdown import Inputs, write_report

READS = (
    "report",
    "seed",
    "seeds",
    "peer_seeds",
    "epoch_scale",
    "min_portraits",
    "methods",
    "joint_variants",
    "peers",
    "hr_roles",
    "lr_roles",
    "composed_photos",
    "evaluate",
    "super_resolver",
    "regulariser",
    "discriminator",
    "feature_discriminator",
    "centreface",
    "train_centreface",
    "train_matcher",
    "pretrain_sr",
    "pretrain_inverse_cr",
    "pretrain_cr",
    "finetune_joint",
    "detection",
    "lr_faces",
    "hr_faces",
    "deduplicate",
    "geometry",
    "lambda_gan",
    "lambda_cr",
    "lambda_cr_sr",
    "lambda_cr_gan",
)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    for name in ("metrics", "timings", "complexity", "training", "sr", "hr", "lr", "train", "paper", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args(argv)
    params = read_params(args.params, READS)
    inputs = Inputs(
        metrics=args.metrics,
        timings=args.timings,
        complexity=args.complexity,
        training=args.training,
        paper=args.paper,
        faces=Folders(sr=args.sr, hr=args.hr, lr=args.lr, train=args.train),
    )
    write_report(inputs, params, args.out)


if __name__ == "__main__":
    run(main)
