"""Check all of params.yaml before any stage works: DVC removes a stage's outputs before it runs the stage."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # this repository's code, whatever is installed

from charreg.core.arguments import arguments
from charreg.core.errors import CharregError, run
from charreg.core.files import write_bytes
from charreg.core.params import read_all_params
from charreg.peers.base import check_options, job_of

MADE = ("data/packaged/", "data/composed/")  # photographs of earlier stages


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, argv, "out")
    try:
        params = read_all_params(args.params)
        for name, section in params.peers.items():
            if name in params.trained_peers:
                check_options(job_of(name), section)
        for source in (*params.hr_roles.values(), *params.lr_roles.values(), *params.composed_photos.values()):
            if not source.path.startswith(MADE) and not Path(source.path).exists():
                raise CharregError(
                    f"{source.path}: not here, wanted {source.source} photographs for a role; an experiment in a copy "
                    f"(--queue, --temp) has what Git or DVC know: dvc add {source.path}"
                )
    except CharregError as error:
        raise CharregError(
            f"{error}; nothing ran and no model was removed, but the value stays in {args.params}: "
            f"set it again, or go back with git checkout {args.params}"
        ) from None
    write_bytes(args.out, b"checked\n")  # always the same: what depends on it runs for reasons of its own


if __name__ == "__main__":
    run(main)
