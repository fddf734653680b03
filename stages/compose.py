"""Put a method together that trains nothing of its own: bicubic, or phi_sr after phi_cr without stage 2."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import run
from charreg.core.models import compose


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "models", choices={"method": ["bicubic", "cr_stage1"]})
    trained = args.method == "cr_stage1"
    super_resolver, characteristic = (
        args.models / name if trained else None for name in ("sr_module", "characteristic")
    )
    compose(args.method, super_resolver, characteristic, args.models / args.method)


if __name__ == "__main__":
    run(main)
