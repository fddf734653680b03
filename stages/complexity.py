"""Count parameters and time the inference of freshly built networks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.complexity import measure_complexity
from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.files import write_json
from charreg.core.params import read_params
from charreg.core.tensors import compute_device

READS = (
    *("complexity", "super_resolver", "regulariser", "discriminator", "feature_discriminator", "centreface.embedding"),
    *(f"peers.lrgan.{name}" for name in ("width", "blocks", "norm", "output", "d_width", "d_pooling")),
    *(f"peers.cyclegan.{name}" for name in ("width", "blocks", "d_width")),
)


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "out")
    params = read_params(args.params, READS)

    settings = {
        "super_resolver": params.super_resolver.model_dump(),
        "regulariser": params.regulariser.model_dump(),
        "discriminator": params.discriminator.model_dump(),
        "feature_discriminator": params.feature_discriminator.model_dump(),
        "embedding": dict(params.centreface)["embedding"],
        **params.peers,
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
