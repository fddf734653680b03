"""S1d: train the characteristic regulariser phi_cr, genuine to artificial-like LR faces."""

from charreg import distributed
from charreg.errors import run
from charreg.faces import open_faces
from charreg.jobs.pretrain_cr import PretrainCr
from charreg.models import load_model, part
from charreg.params import read_params
from charreg.stage import TRAINING_OUTPUTS, arguments, training_notes, training_scratch
from charreg.training import run_job

READS = ("seed", "lambda_gan", "device", "epoch_scale", "regulariser", "discriminator", "pretrain_cr")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "hr", "lr", "inverse", *TRAINING_OUTPUTS)
    params = read_params(args.params, READS)
    device = distributed.start(params.device)
    hr, genuine, inverse = open_faces(args.hr), open_faces(args.lr), load_model(args.inverse)
    notes = training_notes(params, hr=hr, lr=genuine, inverse=inverse)
    phi_inv = part(inverse, "inverse_regulariser", args.inverse)
    job = PretrainCr(params, hr, genuine, phi_inv, device)
    run_job(job, training_scratch("pretrain_cr", notes), notes, args.out, args.curves, args.timings)
    distributed.stop()


if __name__ == "__main__":
    run(main)
