"""Put a method together that trains nothing of its own: bicubic, or phi_sr after phi_cr without stage 2."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.errors import run
from charreg.core.models import compose


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True)
    parser.add_argument("--super-resolver", type=Path)
    parser.add_argument("--characteristic", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    compose(args.method, args.super_resolver, args.characteristic, args.out)


if __name__ == "__main__":
    run(main)
