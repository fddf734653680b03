"""Model folders: one safetensors file per network and `model.json`, enough to rebuild without params.yaml."""

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from charreg.core.errors import RESTORE, CharregError
from charreg.core.files import output_folder, sha256_of_file, write_bytes, write_json
from charreg.core.tensors import channels_last

# Networks are named by file and class (`cr.regulariser.Regulariser`) and imported when one is built: a model of CR does
# not depend on the files of its peers, and a peer's file may bring networks of its own.
NETWORK = re.compile(r"(networks|cr|peers)\.[a-z][a-z0-9_]*\.[A-Z][A-Za-z0-9]*")


@dataclass(frozen=True)
class Blueprint:
    """How a network is built: file and class (`cr.regulariser.Regulariser`) and the arguments."""

    network: str
    arguments: dict[str, Any]

    @classmethod
    def of(cls, network: type[nn.Module], arguments: Mapping[str, Any]) -> Self:
        """The blueprint of a class of this package; arguments as JSON can hold them."""
        return cls(f"{network.__module__.removeprefix('charreg.')}.{network.__name__}", dict(arguments))

    def build(self) -> nn.Module:
        """A fresh network. Raises CharregError for a class this version does not know."""
        return network_class(self.network)(**self.arguments)


def network_class(name: str) -> type[nn.Module]:
    """The class a model.json names; nothing outside charreg's folders of networks is ever imported."""
    if NETWORK.fullmatch(name):
        module, _, class_name = name.rpartition(".")
        try:
            found = getattr(importlib.import_module(f"charreg.{module}"), class_name, None)
        except ModuleNotFoundError:
            found = None
        if isinstance(found, type) and issubclass(found, nn.Module):
            return found
    raise CharregError(
        f"model.json: unknown network {name!r}, wanted a class as cr.<file>.<class> or peers.<file>.<class>"
    )


@dataclass(frozen=True)
class Model:
    """Networks read from a model folder, in evaluation mode, and what model.json says of them."""

    networks: dict[str, nn.Module]
    blueprints: dict[str, Blueprint]
    info: dict[str, Any]
    digest: str


def save_model(
    folder: Path,
    networks: Mapping[str, nn.Module],
    blueprints: Mapping[str, Blueprint],
    info: Mapping[str, Any],
) -> None:
    """Write a model into an existing folder (best the one `files.output_folder` yields)."""
    entries = {}
    for name, network in networks.items():
        content = save_tensors({key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()})
        write_bytes(folder / f"{name}.safetensors", content)
        entries[name] = {
            "network": blueprints[name].network,
            "arguments": blueprints[name].arguments,
            "sha256": sha256_of_file(folder / f"{name}.safetensors"),
        }
    write_json(folder / "model.json", {"networks": entries, **info})


def load_model(folder: Path) -> Model:
    """Rebuild the networks of a model folder.

    Raises CharregError naming the file when something is missing, damaged or of another shape.
    """
    folder = Path(folder)
    note = folder / "model.json"
    try:
        info = json.loads(note.read_text(encoding="utf-8"))
        blueprints = {
            str(name): Blueprint(entry["network"], dict(entry["arguments"])) for name, entry in info["networks"].items()
        }
    except FileNotFoundError:
        raise CharregError(f"{folder}: no model.json, wanted a model; run the stage that trains it") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CharregError(f"{note}: not the model.json of a model; train the model again (dvc repro)") from None
    networks = {}
    for name, blueprint in blueprints.items():
        path = folder / f"{name}.safetensors"
        try:
            content = path.read_bytes()
            if sha256_of_file(path) != info["networks"][name].get("sha256"):
                raise ValueError("its sha256 is not the one model.json names")
            network = blueprint.build()
            network.load_state_dict(load_tensors(content))
        except (OSError, ValueError, RuntimeError, TypeError, LookupError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise CharregError(f"{path}: {reason}; damaged or of another version, {RESTORE}") from None
        networks[name] = channels_last(network).eval()
    return Model(networks, blueprints, info, sha256_of_file(note))


def seed_folder(folder: Path, seed: int) -> Path:
    """The model a seed trained inside a stage's model folder: the folder itself or its `seed-<k>`.

    Raises CharregError when no model there was trained with this seed.
    """
    for place in (Path(folder), Path(folder) / f"seed-{seed}"):
        try:
            found = json.loads((place / "model.json").read_text(encoding="utf-8")).get("seed")
        except (OSError, ValueError, AttributeError):
            continue
        if found == seed:
            return place
    raise CharregError(f"{folder}: no model of seed {seed}, wanted one for every entry of `seeds`; run dvc repro")


def seed_folders(folder: Path) -> dict[str, Path]:
    """Every model in a model folder, by its place: `.` for the first, `seed-<k>` for those of further seeds."""
    others = sorted(folder.glob("seed-*"), key=lambda path: int(path.name.removeprefix("seed-")))
    return {".": folder, **{path.name: path for path in others}}


def part(model: Model, name: str, folder: Path) -> nn.Module:
    """One network of a model, or a CharregError naming what the folder holds instead."""
    if name not in model.networks:
        raise CharregError(f"{folder}: found networks {', '.join(model.networks) or 'none'}, wanted {name}")
    return model.networks[name]


def compose(method: str, super_resolver: Path | None, characteristic: Path | None, out: Path) -> None:
    """Write the model of a method made of trained parts: phi_sr, phi_cr, both, or none (bicubic); for every seed."""
    wanted = {"super_resolver": super_resolver, "regulariser": characteristic}
    parts = {name: seed_folders(folder) for name, folder in wanted.items() if folder is not None}
    places = list(next(iter(parts.values()))) if parts else ["."]
    with output_folder(out) as whole:
        for place in places:
            networks: dict[str, nn.Module] = {}
            blueprints: dict[str, Blueprint] = {}
            digests = {}
            for name, folders in parts.items():
                folder = folders.get(place, folders["."] / place)
                model = load_model(folder)
                networks[name], blueprints[name] = part(model, name, folder), model.blueprints[name]
                digests[name] = model.digest
            (whole / place).mkdir(exist_ok=True)
            save_model(whole / place, networks, blueprints, {"job": "compose", "method": method, "data": digests})
