"""Resume states of trainings: whole or absent, never unpickled.

A state is a safetensors file of tensors and a JSON note of the same name, with one SHA-256 over both; the note is
written last, so a state without a valid note does not exist. The two newest states are kept.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from charreg.core.errors import CharregError
from charreg.core.files import write_bytes, write_json
from charreg.core.scratch import ScratchFolder

KEPT = 2  # states of one training


class Scratch(ScratchFolder):
    """The resume states of one training."""

    def __init__(self, stage: str, fingerprint: Mapping[str, Any], root: Path | None = None) -> None:
        super().__init__(stage, fingerprint, root)
        self._damaged: set[str] = set()  # names of states that were passed over

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


def optimiser_tensors(name: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors (`<name>/<parameter>/<entry>`)."""
    return {
        f"{name}/{index}/{entry}": value
        for index, entries in optimiser.state_dict()["state"].items()
        for entry, value in entries.items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(name: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave; rates and other options stay as the optimiser was built.

    An entry of a parameter's shape gets its layout in memory too: sums run in that order, to the last bit.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        owner, _, rest = key.partition("/")
        if owner == name:
            index, _, entry = rest.partition("/")
            state.setdefault(int(index), {})[entry] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, entries in optimiser.state.items():
        entries |= {
            entry: torch.empty_like(parameter).copy_(value)
            for entry, value in entries.items()
            if value.shape == parameter.shape
        }
