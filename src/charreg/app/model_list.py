"""Which models there are to super-resolve with: those of the package and those of a project."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from charreg.app.upscaler import RELEASED


@dataclass(frozen=True)
class Listed:
    """A model folder, what it is called, its networks and the size of their files, bytes."""

    folder: Path
    label: str
    networks: tuple[str, ...]
    size: int
    shipped: bool


def list_models(project: Path) -> Iterator[Listed]:
    """The shipped models, then those under `project`/models that can super-resolve; other folders are passed over."""
    for root, shipped in ((RELEASED, True), (project / "models", False)):
        for note in sorted(root.glob("*/model.json")):
            try:
                info = json.loads(note.read_text(encoding="utf-8"))
                networks = tuple(info["networks"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if not networks or "super_resolver" in networks:
                size = sum(path.stat().st_size for path in note.parent.glob("*.safetensors"))
                yield Listed(note.parent, str(info.get("label") or info.get("job", "")), networks, size, shipped)
