"""Train the characteristic regulariser phi_cr, genuine to artificial-like LR faces."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.errors import run
from charreg.core.faces import open_faces
from charreg.core.models import load_model, part, seed_folder
from charreg.core.params import Params, read_params
from charreg.cr.pretrain_cr import PretrainCr
from charreg.training import distributed
from charreg.training.job import Job
from charreg.training.stage import train_every_seed, training_arguments, training_notes

READS = ("seeds", "lambda_gan", "epoch_scale", "schedule", "regulariser", "discriminator", "pretrain_cr")


def main(argv: list[str] | None = None) -> None:
    args = training_arguments(__doc__, argv)
    params = read_params(args.params, READS)
    device = distributed.start()
    hr, genuine = open_faces(args.faces / "hr"), open_faces(args.faces / "lr")

    def make(params: Params) -> tuple[Job, dict[str, Any]]:
        folder = seed_folder(args.models / "inverse_cr", params.seed)
        inverse = load_model(folder)
        phi_inv = part(inverse, "inverse_regulariser", folder)
        job = PretrainCr(params, hr, genuine, phi_inv, device)
        return job, training_notes(params, hr=hr, lr=genuine, inverse=inverse)

    train_every_seed("pretrain_cr", make, params, args)
    distributed.stop()


if __name__ == "__main__":
    run(main)
