"""The one error users see, and the frame that turns it into one line."""

import sys
from collections.abc import Callable


class CharregError(Exception):
    """A fault the user can mend. Its text is one line: the thing, what was found, what was wanted, what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main()`; a CharregError becomes one line on stderr and exit status 1."""
    try:
        main()
    except CharregError as error:
        sys.stderr.write(f"charreg: {' '.join(str(error).split())}\n")
        raise SystemExit(1) from None
