"""The one error users see, and the frame that turns it into one line."""

import sys
from collections.abc import Callable

RESTORE = "restore it (charreg mend-cache, then dvc repro)"  # what helps with damaged files of earlier stages


class CharregError(Exception):
    """A fault the user can mend. Its text is one line: the thing, what was found, what was wanted, what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main()`; a CharregError, or a refusal of the file system, becomes one line and exit status 1."""
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        sys.stderr.write(f"charreg: {error.filename or 'input or output'}: {error.strerror or error}\n")
        raise SystemExit(1) from None
    except CharregError as error:
        sys.stderr.write(f"charreg: {' '.join(str(error).split())}\n")
        raise SystemExit(1) from None
