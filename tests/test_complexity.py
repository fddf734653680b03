"""Parameter counts against the paper's, and times that make sense."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from charreg.complexity import (
    PAPER,
    SYSTEMS,
    build_cr,
    count_parameters,
    measure_complexity,
    milliseconds,
)
from charreg.networks.blocks import add_spectral_norm

TINY: dict[str, Any] = {
    "super_resolver": {"width": 4, "blocks": (1, 1, 1), "norm": "none", "output": "residual"},
    "regulariser": {"width": 4, "blocks": 1, "norm": "none", "output": "residual"},
    "discriminator": {"width": 4, "pooling": "early", "spectral_norm": True},
    "feature_discriminator": {"widths": (8, 4), "spectral_norm": True, "input": "l2"},
    "embedding": 16,
    "lrgan": {
        "width": 4,
        "blocks": (1, 1, 1),
        "norm": "none",
        "output": "residual",
        "d_width": 4,
        "d_pooling": "early",
    },
}


def test_systems_at_the_papers_width() -> None:
    """The published 2.7 M, 4.0 M and 21 M."""
    settings = {**PAPER, "cr": PAPER}
    counts = {name: count_parameters(*build(settings[name]).trained) for name, build in SYSTEMS.items()}
    assert counts == {"cr": 2_685_863, "lrgan": 4_008_392, "cyclegan": 21_204_872}
    deployed = build_cr(PAPER).super_resolver
    assert count_parameters(deployed) == 1_812_382
    assert count_parameters(deployed[1]) == 1_586_519


def test_spectral_norm_adds_no_parameters() -> None:
    """Counting the state instead, buffers and all, would."""
    plain, normalised = (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 1)) for _ in range(2))
    add_spectral_norm(normalised)
    assert count_parameters(normalised) == count_parameters(plain) == 3 * 8 * 9 + 8 + 9
    assert sum(tensor.numel() for tensor in normalised.state_dict().values()) > count_parameters(plain)


def test_frozen_networks_are_counted() -> None:
    network = nn.Linear(3, 2).requires_grad_(False)
    assert count_parameters(network) == 8


def test_measured_complexity() -> None:
    found = measure_complexity(TINY, batch=2, repeats=2, device=torch.device("cpu"))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found["systems"]) == ["cr", "lrgan"], "CycleGAN is not declared"
    assert found["systems"]["lrgan"]["paper"]["parameters"] == 4_008_392
    assert all(found["systems"]["lrgan"]["run"][f"ms_{name}"] > 0 for name in ("single", "batch"))
    assert found["machine"]["cpu"]
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["versions"]["torch"] == torch.__version__
    small, large = (found["systems"]["cr"][name] for name in ("run", "paper"))
    assert small["parameters"] < large["parameters"] == 2_685_863
    assert small["ms_batch"] < large["ms_batch"]


def test_milliseconds_take_the_median_after_warm_up() -> None:
    """One slow first call, as when kernels are chosen, does not count."""
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) == 1:
            torch.randn(400, 400).matmul(torch.randn(400, 400))

    assert milliseconds(work, 3, torch.device("cpu")) < 5
    assert len(calls) == 5


def test_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Path(__file__).parents[1] / "stages/complexity.py"
    main = runpy.run_path(str(script))["main"]
    seen: dict[str, Any] = {}

    def measure(settings: dict[str, Any], **options: Any) -> dict[str, Any]:
        seen.update(settings, **options)
        return {"run": 1}

    monkeypatch.setitem(main.__globals__, "measure_complexity", measure)
    main(["--params", str(script.parents[1] / "params.yaml"), "--out", str(tmp_path / "c.json")])
    assert json.loads((tmp_path / "c.json").read_text()) == {"run": 1}
    assert build_cr({**TINY, **{key: seen[key] for key in TINY}})
    assert seen["batch"] >= 1
