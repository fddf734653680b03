"""S1a: train the super-resolver phi_sr on artificial pairs."""

from charreg import distributed
from charreg.errors import run
from charreg.faces import open_faces
from charreg.jobs.pretrain_sr import PretrainSr
from charreg.params import read_params
from charreg.stage import TRAINING_OUTPUTS, arguments, training_notes, training_scratch
from charreg.training import run_job

READS = ("seed", "device", "epoch_scale", "super_resolver", "discriminator", "pretrain_sr")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "hr", *TRAINING_OUTPUTS)
    params = read_params(args.params, READS)
    device = distributed.start(params.device)
    hr = open_faces(args.hr)
    notes = training_notes(params, hr=hr)
    job = PretrainSr(params, hr, device)
    run_job(job, training_scratch("pretrain_sr", notes), notes, args.out, args.curves, args.timings)
    distributed.stop()


if __name__ == "__main__":
    run(main)
