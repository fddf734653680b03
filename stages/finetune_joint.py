"""S2: fine-tune phi_sr and phi_cr together on eq. 9."""

from charreg import distributed
from charreg.errors import run
from charreg.faces import open_faces
from charreg.jobs.finetune_joint import FinetuneJoint, FirstStage
from charreg.params import JOINT_VARIANTS, read_params
from charreg.stage import TRAINING_OUTPUTS, arguments, training_notes, training_scratch
from charreg.training import run_job

READS = (
    *("seed", "lambda_gan", "lambda_cr", "lambda_cr_sr", "lambda_cr_gan", "device", "epoch_scale"),
    *("feature_discriminator", "finetune_joint"),
)


def main(argv: list[str] | None = None) -> None:
    models = ("super-resolver", "characteristic", "inverse", "centreface")
    args = arguments(__doc__, argv, "hr", "lr", *models, *TRAINING_OUTPUTS, choices={"variant": JOINT_VARIANTS})
    params = read_params(args.params, READS)
    device = distributed.start(params.device)
    hr, genuine = open_faces(args.hr), open_faces(args.lr)
    image_gan = params.finetune_joint.keep_sr_adv > 0
    first = FirstStage.load(args.super_resolver, args.characteristic, args.inverse, args.centreface, image_gan)
    notes = training_notes(params, hr=hr, lr=genuine, **vars(first))
    job = FinetuneJoint(args.variant, params, hr, genuine, first, device)
    scratch = training_scratch(f"finetune_joint@{args.variant}", notes)
    run_job(job, scratch, notes, args.out, args.curves, args.timings)
    distributed.stop()


if __name__ == "__main__":
    run(main)
