"""S1b: train a CentreFace, for losses or for measuring rank-1, on HR faces and measure it on people it never saw."""

from charreg import distributed
from charreg.errors import run
from charreg.faces import open_faces
from charreg.files import write_json
from charreg.jobs.train_centreface import TrainCentreface
from charreg.metrics.identification import centreface_gate
from charreg.params import read_params
from charreg.stage import TRAINING_OUTPUTS, arguments, training_notes, training_scratch
from charreg.training import run_job

READS = ("seed", "device", "epoch_scale", "min_portraits", "centreface", "train_{purpose}")


def main(argv: list[str] | None = None) -> None:
    purposes = {"purpose": ("centreface", "matcher")}
    args = arguments(__doc__, argv, "hr", "test", "metrics", *TRAINING_OUTPUTS, choices=purposes)
    params = read_params(args.params, [key.format(purpose=args.purpose) for key in READS])
    device = distributed.start(params.device)
    hr, test = open_faces(args.hr), open_faces(args.test)
    notes = training_notes(params, hr=hr)
    job = TrainCentreface(args.purpose, params, hr, device)
    networks = run_job(
        job, training_scratch(f"train_{args.purpose}", notes), notes, args.out, args.curves, args.timings
    )
    if distributed.rank() == 0:
        gate_faces = job.gate_faces(hr) if job.held_out else test
        write_json(args.metrics, centreface_gate(networks["centreface"], gate_faces, params.seed, device))
    distributed.stop()


if __name__ == "__main__":
    run(main)
