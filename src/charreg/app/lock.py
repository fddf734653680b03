"""Whether dvc.lock tells of this very code: in a fresh clone, before any data is there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charreg.core.errors import CharregError

CODE = ("src/", "stages/", "profiles/", "params.yaml")


def stale_entries(root: Path) -> list[str]:
    """What dvc.lock records otherwise than the tree has it, a line each: code, parameters, commands, missing stages.

    Data that is not there says nothing and is left out. Raises CharregError where there is no DVC project.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo  # slow to import

    try:
        status: dict[str, list[Any]] = Repo(str(root)).status()
    except NotDvcRepoError:
        raise CharregError(f"{root}: not a DVC project, wanted the folder with .dvc") from None
    return sorted({f"{stage}: {fault}" for stage, faults in status.items() for fault in _faults(faults)})


def _faults(faults: list[Any]) -> Iterator[str]:
    for fault in faults:
        if isinstance(fault, str):
            yield fault
            continue
        for path, found in fault.get("changed deps", {}).items():
            if isinstance(found, dict):  # parameters, by key
                yield from (f"{path} {key} {state}" for key, state in found.items())
            elif path.startswith(CODE):
                yield f"{path} {found}"
