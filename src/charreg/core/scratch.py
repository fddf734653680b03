"""Where interrupted work waits to go on: a folder found by fingerprint and locked by its owner.

Not a stage output: it lies beside DVC's own temporary files, so that experiments in temporary copies share it.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from charreg.core.errors import CharregError
from charreg.core.files import write_json

KEPT_FOLDERS = 3  # of one stage: what an experiment interrupted may be wanted again


def scratch_root() -> Path:
    """`$DVC_ROOT/.dvc/tmp/charreg`; without the variable, that of the repository the process is in."""
    root = os.environ.get("DVC_ROOT")
    if root is None:
        here = Path.cwd()
        root = str(next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here))
    return Path(root) / ".dvc" / "tmp" / "charreg"


def code_digest() -> str:
    """SHA-256 of the source of the running script and of every charreg module imported so far."""
    digest = hashlib.sha256()
    for name in sorted(name for name in sys.modules if name.split(".")[0] in ("charreg", "__main__")):
        path = getattr(sys.modules[name], "__file__", None)
        if path:
            digest.update(name.encode() + Path(path).read_bytes())
    return digest.hexdigest()


class ScratchFolder:
    """The resume states of one piece of work, in a folder named by the fingerprint of what the work depends on.

    fingerprint: what must be equal for a state to be used, by name (params, data, code, torch).
    """

    def __init__(self, stage: str, fingerprint: Mapping[str, Any], root: Path | None = None) -> None:
        self.fingerprint = {key: json.loads(json.dumps(value)) for key, value in fingerprint.items()}
        digest = hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()
        self.stage = stage
        self.folder = (root or scratch_root()) / stage.replace("@", "-") / digest[:16]

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Own the folder for the length of a block; a second owner is refused with the first one's PID.

        The system drops the lock with the process, so a killed holder blocks nobody.
        """
        lock, owner = FileLock(self.folder / "lock", timeout=0), self.folder / "owner"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = lock.acquire()
        except Timeout:
            holder = owner.read_text(encoding="ascii") if owner.exists() else "unknown"
            raise CharregError(f"{self.stage}: already runs as process {holder}; wait for it or stop it") from None
        except OSError as error:
            raise CharregError(f"{self.folder}: {error.strerror}; wanted a folder for resume states") from None
        with held:
            try:
                owner.write_text(str(os.getpid()), encoding="ascii")
                for partial in self.folder.glob(".*.partial-*"):
                    partial.unlink()  # of a writer that was killed
                self._tell_others_apart()
            except OSError as error:
                raise CharregError(f"{self.folder}: {error.strerror or error}; wanted room for resume states") from None
            yield

    def _tell_others_apart(self) -> None:
        """Say why older resume states of this stage are not used; forget the oldest ones."""
        note = self.folder / "fingerprint.json"
        if not note.exists():
            others = [path for path in self.folder.parent.iterdir() if (path / "fingerprint.json").exists()]
            others.sort(key=lambda path: (path / "fingerprint.json").stat().st_mtime)
            if others:
                sys.stderr.write(f"{self.stage}: starts anew, {self._difference(others[-1])}\n")
            for old in others[: max(0, len(others) + 1 - KEPT_FOLDERS)]:
                if not is_held(old):
                    shutil.rmtree(old, ignore_errors=True)
        write_json(note, self.fingerprint)

    def _difference(self, other: Path) -> str:
        try:
            theirs = json.loads((other / "fingerprint.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return "the earlier resume state is unreadable"
        parts = []
        for key, value in self.fingerprint.items():
            if theirs.get(key) != value:
                inner = _changed_keys(theirs.get(key), value)
                parts.append(f"{key} changed{f' ({inner})' if inner else ''}")
        return "the earlier resume state is not used: " + (", ".join(parts) or "its fingerprint differs")


def is_held(folder: Path) -> bool:
    """Whether a running process owns these resume states."""
    try:
        with FileLock(folder / "lock", timeout=0):
            return False
    except Timeout:
        return True


def _changed_keys(old: Any, new: Any, prefix: str = "") -> str:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return ""
    changed = []
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            changed.append(_changed_keys(old.get(key), new.get(key), f"{prefix}{key}.") or f"{prefix}{key}")
    return ", ".join(changed[:5])
