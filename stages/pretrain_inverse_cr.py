"""S1c: train the inverse characteristic regulariser phi_inv, artificial to genuine LR faces."""

from charreg import distributed
from charreg.errors import run
from charreg.faces import open_faces
from charreg.jobs.pretrain_inverse_cr import PretrainInverseCr
from charreg.params import read_params
from charreg.stage import TRAINING_OUTPUTS, arguments, training_notes, training_scratch
from charreg.training import run_job

READS = ("seed", "device", "epoch_scale", "regulariser", "discriminator", "pretrain_inverse_cr")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "hr", "lr", *TRAINING_OUTPUTS)
    params = read_params(args.params, READS)
    device = distributed.start(params.device)
    hr, genuine = open_faces(args.hr), open_faces(args.lr)
    notes = training_notes(params, hr=hr, lr=genuine)
    job = PretrainInverseCr(params, hr, genuine, device)
    run_job(job, training_scratch("pretrain_inverse_cr", notes), notes, args.out, args.curves, args.timings)
    distributed.stop()


if __name__ == "__main__":
    run(main)
