"""Train the super-resolver phi_sr on artificial pairs."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.errors import run
from charreg.core.faces import open_faces
from charreg.core.params import Params, read_params
from charreg.cr.pretrain_sr import PretrainSr
from charreg.training import distributed
from charreg.training.job import Job
from charreg.training.stage import train_every_seed, training_arguments, training_notes

READS = ("seeds", "epoch_scale", "schedule", "super_resolver", "discriminator", "pretrain_sr")


def main(argv: list[str] | None = None) -> None:
    args = training_arguments(__doc__, argv)
    params = read_params(args.params, READS)
    device = distributed.start()
    hr = open_faces(args.faces / "hr")

    def make(params: Params) -> tuple[Job, dict[str, Any]]:
        return PretrainSr(params, hr, device), training_notes(params, hr=hr)

    train_every_seed("pretrain_sr", make, params, args)
    distributed.stop()


if __name__ == "__main__":
    run(main)
