"""S2: fine-tune phi_sr and phi_cr together on eq. 9, or what a variant leaves of it."""

from typing import Any

from charreg import distributed
from charreg.errors import run
from charreg.faces import open_faces
from charreg.jobs.finetune_joint import TERMS, FinetuneJoint, FirstStage
from charreg.params import JOINT_VARIANTS, Params, read_params
from charreg.stage import TRAINING_OUTPUTS, arguments, train_every_seed, training_notes
from charreg.training import Job

READS = (
    *("seeds", "lambda_gan", "lambda_cr", "lambda_cr_sr", "lambda_cr_gan", "device", "epoch_scale"),
    *("feature_discriminator", "finetune_joint"),
)


def main(argv: list[str] | None = None) -> None:
    models = ("super-resolver", "characteristic", "inverse", "centreface")
    args = arguments(__doc__, argv, "hr", "lr", *models, *TRAINING_OUTPUTS, choices={"variant": JOINT_VARIANTS})
    params = read_params(args.params, READS)
    device = distributed.start(params.device)
    hr, genuine = open_faces(args.hr), open_faces(args.lr)

    def make(params: Params) -> tuple[Job, dict[str, Any]]:
        first = FirstStage.load(
            args.variant,
            params.seed,
            sr_module=args.super_resolver,
            characteristic=args.characteristic,
            inverse_cr=args.inverse,
            centreface=args.centreface,
            image_gan=params.finetune_joint.keep_sr_adv > 0,
        )
        job = FinetuneJoint(args.variant, params, hr, genuine, first, device)
        return job, training_notes(params, leave_out=TERMS[args.variant].idle, hr=hr, lr=genuine, **first.used())

    train_every_seed(f"finetune_joint@{args.variant}", make, params, args)
    distributed.stop()


if __name__ == "__main__":
    run(main)
