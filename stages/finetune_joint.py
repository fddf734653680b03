"""Fine-tune phi_sr and phi_cr together on eq. 9, or what a variant leaves of it."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.errors import run
from charreg.core.faces import open_faces
from charreg.core.params import JOINT_VARIANTS, Params, read_params
from charreg.cr.finetune_joint import VARIANTS, FirstStage
from charreg.training import distributed
from charreg.training.job import Job
from charreg.training.stage import train_every_seed, training_arguments, training_notes

READS = (
    *("seeds", "lambda_gan", "lambda_cr", "lambda_cr_sr", "lambda_cr_gan", "epoch_scale", "schedule"),
    *("feature_discriminator", "finetune_joint"),
)


def main(argv: list[str] | None = None) -> None:
    args = training_arguments(__doc__, argv, choices={"variant": JOINT_VARIANTS})
    params = read_params(args.params, READS)
    device = distributed.start()
    hr, genuine = open_faces(args.faces / "hr"), open_faces(args.faces / "lr")

    variant = VARIANTS[args.variant]

    def make(params: Params) -> tuple[Job, dict[str, Any]]:
        image_gan = params.finetune_joint.keep_sr_adv > 0
        first = FirstStage.load(args.models, variant.uses, params.seed, image_gan)
        job = variant(params, hr, genuine, first, device)
        return job, training_notes(params, leave_out=variant.idle, hr=hr, lr=genuine, **first.used())

    train_every_seed(f"finetune_joint@{args.variant}", make, params, args)
    distributed.stop()


if __name__ == "__main__":
    run(main)
