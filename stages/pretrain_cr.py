"""S1d: train the characteristic regulariser phi_cr, genuine to artificial-like LR faces."""

from typing import Any

from charreg import distributed
from charreg.errors import run
from charreg.faces import open_faces
from charreg.jobs.pretrain_cr import PretrainCr
from charreg.models import load_model, part, seed_folder
from charreg.params import Params, read_params
from charreg.stage import TRAINING_OUTPUTS, arguments, train_every_seed, training_notes
from charreg.training import Job

READS = ("seeds", "lambda_gan", "device", "epoch_scale", "regulariser", "discriminator", "pretrain_cr")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "hr", "lr", "inverse", *TRAINING_OUTPUTS)
    params = read_params(args.params, READS)
    device = distributed.start(params.device)
    hr, genuine = open_faces(args.hr), open_faces(args.lr)

    def make(params: Params) -> tuple[Job, dict[str, Any]]:
        inverse = load_model(seed_folder(args.inverse, params.seed))
        phi_inv = part(inverse, "inverse_regulariser", args.inverse)
        job = PretrainCr(params, hr, genuine, phi_inv, device)
        return job, training_notes(params, hr=hr, lr=genuine, inverse=inverse)

    train_every_seed("pretrain_cr", make, params, args)
    distributed.stop()


if __name__ == "__main__":
    run(main)
