"""Count parameters and time the inference of freshly built networks."""

import argparse
from pathlib import Path

import here  # noqa: F401
from charreg.complexity import SYSTEMS, measure_complexity
from charreg.core.errors import run
from charreg.core.files import write_json
from charreg.core.params import read_params
from charreg.core.tensors import compute_device
from charreg.peers.base import check_options, job_of

READS = (
    "complexity",
    "super_resolver",
    "regulariser",
    "discriminator",
    "feature_discriminator",
    "centreface",
    "schedule",
    "peers.lrgan",
    "peers.cyclegan",
)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    params = read_params(args.params, READS)

    settings = {
        "super_resolver": params.super_resolver.model_dump(),
        "regulariser": params.regulariser.model_dump(),
        "discriminator": params.discriminator.model_dump(),
        "feature_discriminator": params.feature_discriminator.model_dump(),
        "embedding": params.centreface.embedding,
        **{
            name: check_options(job_of(name), params.peers[name]).model_dump()
            for name in SYSTEMS
            if name in params.peers
        },
    }
    found = measure_complexity(
        settings,
        batch=params.complexity.batch,
        repeats=params.complexity.repeats,
        device=compute_device(),
    )
    write_json(args.out, found)


if __name__ == "__main__":
    run(main)
