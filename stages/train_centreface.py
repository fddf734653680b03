"""Train a CentreFace, for losses or for measuring rank-1, on HR faces and measure it on people it never saw."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.errors import run
from charreg.core.faces import open_faces
from charreg.core.files import write_json
from charreg.core.params import read_params
from charreg.cr.train_centreface import TrainCentreface
from charreg.metrics.identification import centreface_gate
from charreg.training import distributed
from charreg.training.export import Assignment, run_jobs
from charreg.training.stage import training_arguments, training_notes, training_scratch

READS = ("seed", "epoch_scale", "schedule", "min_portraits", "centreface", "train_{purpose}")


def main(argv: list[str] | None = None) -> None:
    purposes = {"purpose": ("centreface", "matcher")}
    args = training_arguments(__doc__, argv, "test", "scores", choices=purposes)
    params = read_params(args.params, [key.format(purpose=args.purpose) for key in READS])
    device = distributed.start()
    hr, test = open_faces(args.faces / "hr"), open_faces(args.test)
    notes = training_notes(params, hr=hr)
    job = TrainCentreface(args.purpose, params, hr, device)
    assignment = Assignment(job, training_scratch(f"train_{args.purpose}", notes), notes)
    networks = run_jobs([assignment], args.models, args.curves)
    if distributed.rank() == 0:
        gate_faces = job.gate_faces(hr) if job.held_out else test
        write_json(args.scores, centreface_gate(networks["centreface"], gate_faces, params.seed, device))
    distributed.stop()


if __name__ == "__main__":
    run(main)
