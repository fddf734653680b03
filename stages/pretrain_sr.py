"""S1a: train the super-resolver phi_sr on artificial pairs."""

from typing import Any

from charreg import distributed
from charreg.errors import run
from charreg.faces import open_faces
from charreg.jobs.pretrain_sr import PretrainSr
from charreg.params import Params, read_params
from charreg.stage import TRAINING_OUTPUTS, arguments, train_every_seed, training_notes
from charreg.training import Job

READS = ("seeds", "device", "epoch_scale", "super_resolver", "discriminator", "pretrain_sr")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "hr", *TRAINING_OUTPUTS)
    params = read_params(args.params, READS)
    device = distributed.start(params.device)
    hr = open_faces(args.hr)

    def make(params: Params) -> tuple[Job, dict[str, Any]]:
        return PretrainSr(params, hr, device), training_notes(params, hr=hr)

    train_every_seed("pretrain_sr", make, params, args)
    distributed.stop()


if __name__ == "__main__":
    run(main)
