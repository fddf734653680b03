"""Train one of the systems CR is compared with, or a method of your own: the job of src/charreg/peers/<peer>.py."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.errors import run
from charreg.core.faces import open_faces
from charreg.core.models import load_model, part
from charreg.core.params import Params, read_params
from charreg.networks.centreface import CentreFace
from charreg.peers.base import PeerInputs, job_of
from charreg.training import distributed
from charreg.training.job import Job
from charreg.training.stage import train_every_seed, training_arguments, training_notes

READS = ("seeds", "peer_seeds", "epoch_scale", "schedule", "min_portraits", "peers.{peer}")


def main(argv: list[str] | None = None) -> None:
    args = training_arguments(__doc__, argv, words=["peer"])
    params = read_params(args.params, [key.format(peer=args.peer) for key in READS])
    device = distributed.start()
    hr, genuine = open_faces(args.faces / "hr"), open_faces(args.faces / "lr")
    centreface = load_model(args.models / "centreface")
    recogniser = part(centreface, "centreface", args.models / "centreface")
    assert isinstance(recogniser, CentreFace)
    peer = job_of(args.peer)

    def make(params: Params) -> tuple[Job, dict[str, Any]]:
        notes = training_notes(params, hr=hr, lr=genuine, centreface=centreface)
        return peer(params, PeerInputs(hr, genuine, recogniser), device), notes

    train_every_seed(f"train_peer@{args.peer}", make, params, args, params.peer_seeds)
    distributed.stop()


if __name__ == "__main__":
    run(main)
