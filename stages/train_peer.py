"""Train one of the systems CR is compared with, or a method of your own: the job of charreg/jobs/train_<peer>.py."""

import importlib
from typing import Any

from charreg import distributed
from charreg.errors import CharregError, run
from charreg.faces import open_faces
from charreg.jobs.peer import Inputs, PeerJob
from charreg.models import load_model, part
from charreg.networks.centreface import CentreFace
from charreg.params import Params, read_params
from charreg.stage import TRAINING_OUTPUTS, arguments, train_every_seed, training_notes
from charreg.training import Job

READS = ("seeds", "device", "epoch_scale", "peers.{peer}")


def job_of(peer: str) -> type[PeerJob]:
    """The one PeerJob of charreg/jobs/train_<peer>.py."""
    name = f"charreg.jobs.train_{peer}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise CharregError(
            f"peers.{peer}: no file src/charreg/jobs/train_{peer}.py, wanted the job of this peer"
        ) from None
    jobs = [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, PeerJob) and found.__module__ == name
    ]
    if len(jobs) != 1 or jobs[0].name != peer:
        found = ", ".join(job.__name__ for job in jobs) or "none"
        raise CharregError(f"{module.__file__}: found jobs {found}, wanted one PeerJob with name = {peer!r}")
    return jobs[0]


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "hr", "lr", "centreface", *TRAINING_OUTPUTS, words=["peer"])
    params = read_params(args.params, [key.format(peer=args.peer) for key in READS])
    device = distributed.start(params.device)
    hr, genuine, centreface = open_faces(args.hr), open_faces(args.lr), load_model(args.centreface)
    recogniser = part(centreface, "centreface", args.centreface)
    assert isinstance(recogniser, CentreFace)
    peer = job_of(args.peer)

    def make(params: Params) -> tuple[Job, dict[str, Any]]:
        notes = training_notes(params, hr=hr, lr=genuine, centreface=centreface)
        return peer(params, Inputs(hr, genuine, recogniser), device), notes

    train_every_seed(f"train_peer@{args.peer}", make, params, args)
    distributed.stop()


if __name__ == "__main__":
    run(main)
