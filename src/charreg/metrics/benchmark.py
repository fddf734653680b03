"""What every method is measured with, in one folder: the test faces, the features of the real ones, the recogniser
that measures rank-1, and the protocol (the options of `evaluate` and the seed).
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from charreg.core.errors import RESTORE, CharregError
from charreg.core.faces import FaceSet, open_faces
from charreg.core.files import write_json
from charreg.core.params import EvaluateOptions
from charreg.metrics.distances import Reference, open_reference, write_reference
from charreg.metrics.features import FeatureNetwork

TESTS = ("web", "cctv", "hr_test")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark folder, opened."""

    folder: Path
    tests: dict[str, FaceSet]  # by name, as TESTS
    options: EvaluateOptions
    seed: int

    @property
    def matcher(self) -> Path:
        """The model folder of the recogniser that measures."""
        return self.folder / "matcher"

    def reference(self, network: FeatureNetwork) -> dict[str, Reference]:
        """The features of the real faces. Raises CharregError when they are damaged or another network's."""
        return open_reference(self.folder / "reference", network)


def write_benchmark(
    out: Path,
    train: FaceSet,
    tests: Mapping[str, Path],
    matcher: Path,
    network: FeatureNetwork,
    options: EvaluateOptions,
    seed: int,
) -> None:
    """Fill an existing folder. train: HR training faces, the reference; tests: face sets by name, as TESTS."""
    for name in TESTS:
        open_faces(tests[name])  # refuses what is damaged
        shutil.copytree(tests[name], out / name)
    shutil.copytree(matcher, out / "matcher")
    (out / "reference").mkdir()
    write_reference(train, network, options, out / "reference")
    write_json(out / "protocol.json", {"evaluate": options.model_dump(mode="json"), "seed": seed})


def open_benchmark(folder: Path) -> Benchmark:
    """Open a benchmark folder. Raises CharregError naming what is missing or damaged."""
    note = folder / "protocol.json"
    try:
        protocol = json.loads(note.read_text(encoding="utf-8"))
        options, seed = EvaluateOptions.model_validate(protocol["evaluate"]), int(protocol["seed"])
    except FileNotFoundError:
        raise CharregError(f"{note}: not found, wanted what stage benchmark writes; run dvc repro") from None
    except (ValueError, KeyError, TypeError, ValidationError):
        raise CharregError(f"{note}: not the protocol of a benchmark; {RESTORE}") from None
    return Benchmark(folder, {name: open_faces(folder / name) for name in TESTS}, options, seed)
