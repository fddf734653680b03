"""Resume states of trainings: found by fingerprint, locked by their owner, whole or absent, never unpickled.

A state is a safetensors file of tensors and a JSON note of the same name, with one SHA-256 over both; the note is
written last, so a state without a valid note does not exist. The two newest states are kept.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from charreg.errors import CharregError
from charreg.files import write_bytes, write_json

KEPT = 2  # states of one training
KEPT_TRAININGS = 3  # resume folders of one stage: what an experiment interrupted may be wanted again


def scratch_root() -> Path:
    """Where resume states lie: `$DVC_ROOT/.dvc/tmp/charreg`, so that experiments in temporary copies share them."""
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


class Scratch:
    """The resume states of one training, in a folder named by the fingerprint of what the training depends on.

    fingerprint: what must be equal for a state to be used, by name (params, data, code, torch).
    """

    def __init__(self, stage: str, fingerprint: Mapping[str, Any], root: Path | None = None) -> None:
        self.fingerprint = {key: json.loads(json.dumps(value)) for key, value in fingerprint.items()}
        digest = hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()
        self.stage = stage
        self.folder = (root or scratch_root()) / stage.replace("@", "-") / digest[:16]
        self._damaged: set[str] = set()  # names of states that were passed over

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Own the folder for the length of a block; a second owner is refused with the first one's PID.

        The kernel drops the lock with the process, so a killed holder blocks nobody.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = open(self.folder / "lock", "a+", encoding="ascii")  # noqa: SIM115  held open: the lock
        except OSError as error:
            raise CharregError(f"{self.folder}: {error.strerror}; wanted a folder for resume states") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise CharregError(
                    f"{self.stage}: this training already runs as process {holder}; wait for it or stop it"
                ) from None
            try:
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
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
            for old in others[: max(0, len(others) + 1 - KEPT_TRAININGS)]:
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

    def save(self, step: int, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Write a state; the one before stays. Raises CharregError when the disk refuses: a training that cannot
        write its states must stop."""
        path = self.folder / f"state-{step:09d}.safetensors"
        content = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        note = {"step": step, **note}
        try:
            write_bytes(path, content)
            write_json(path.with_suffix(".json"), {"sha256": _digest(content, note), "note": note})
            self._damaged.discard(path.stem)
            self._forget_old()
        except OSError as error:
            raise CharregError(
                f"{path}: {error.strerror or error}; the training stops, its earlier state is intact"
            ) from None

    def _forget_old(self) -> None:
        """Keep the newest states that are not known to be damaged."""
        kept = [note.stem for note in self._notes() if note.stem not in self._damaged][:KEPT]
        for path in sorted(self.folder.glob("state-*")):  # a note goes before its tensors
            if path.stem not in kept:
                path.unlink()

    def _notes(self) -> list[Path]:
        return sorted(self.folder.glob("state-*.json"), reverse=True)

    def newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest state that is whole, (tensors, note), or None; damaged ones are named and passed over."""
        notes = self._notes()
        for path in notes:
            try:
                return _read_state(path)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                self._damaged.add(path.stem)
                sys.stderr.write(f"{path}: damaged ({error}); falling back to the state before\n")
        if notes:
            sys.stderr.write(f"{self.stage}: no whole resume state left, starts from step 0\n")
        return None


def _read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state = json.loads(path.read_text(encoding="utf-8"))
    content = path.with_suffix(".safetensors").read_bytes()
    found = _digest(content, state["note"])
    if found != state["sha256"]:
        raise ValueError(f"sha256 {found[:12]}, wanted {str(state['sha256'])[:12]}")
    return load_tensors(content), state["note"]


def _digest(content: bytes, note: Mapping[str, Any]) -> str:
    """SHA-256 of a state: of the file of its tensors and of its note, in whatever order the keys are."""
    digest = hashlib.sha256(content)
    digest.update(json.dumps(note, sort_keys=True).encode())
    return digest.hexdigest()


def is_held(folder: Path) -> bool:
    """Whether a running training owns these resume states."""
    with open(folder / "lock", "a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _changed_keys(old: Any, new: Any, prefix: str = "") -> str:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return ""
    changed = []
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            changed.append(_changed_keys(old.get(key), new.get(key), f"{prefix}{key}.") or f"{prefix}{key}")
    return ", ".join(changed[:5])


def optimiser_tensors(name: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors (`<name>/<parameter>/<entry>`)."""
    return {
        f"{name}/{index}/{entry}": value
        for index, entries in optimiser.state_dict()["state"].items()
        for entry, value in entries.items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(name: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave; rates and other options stay as the optimiser was built."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        owner, _, rest = key.partition("/")
        if owner == name:
            index, _, entry = rest.partition("/")
            state.setdefault(int(index), {})[entry] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
