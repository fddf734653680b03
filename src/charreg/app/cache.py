"""Damage in DVC's cache. DVC believes what lies there, so a flipped bit would come back with every `dvc checkout`."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from charreg.core.errors import CharregError


def damaged_objects(cache: Path) -> Iterator[Path]:
    """The files of a cache folder (`files/md5`) whose content is not what their name says."""
    for path in sorted(cache.glob("[0-9a-f][0-9a-f]/*")):
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != path.parent.name + path.name.removesuffix(".dir"):
            yield path


def mend(root: Path) -> list[Path]:
    """Remove every damaged object of the cache of a project; `dvc repro` then makes anew what it was.

    The files in the workspace keep their content, but DVC looks at each again: it remembers what they ought to be.
    Raises CharregError where there is no DVC project.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo  # slow to import

    try:
        repository = Repo(str(root))
    except NotDvcRepoError:
        raise CharregError(f"{root}: not a DVC project, wanted the folder with .dvc") from None
    removed = []
    for path in damaged_objects(Path(repository.cache.local.path)):
        path.unlink()
        removed.append(path)
    if removed:
        for out in repository.index.outs:
            for path in (Path(out.fs_path), *Path(out.fs_path).rglob("*")):
                if path.is_file():
                    os.utime(path)
    return removed
