"""Inference of the shipped model: torch as trained, torch as `charreg upscale` runs it, onnxruntime; beside LRGAN's.

python benchmarks/inference.py [--repeats 30]

LRGAN's authors released a low-to-high network of 256, 128 and 96 channels (15.5 M parameters); a network of that layout
with made weights stands for it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from corpus import print_table
from torch import nn

from charreg.app.onnx_graph import OnnxNetwork, export_onnx
from charreg.app.upscaler import DEFAULT_MODEL, TorchNetwork, Upscaler
from charreg.core.methods import load_method
from charreg.core.tensors import channels_last, to_tensor
from charreg.networks.blocks import ResidualBlock

STRENGTH = 0.5
CPU = torch.device("cpu")


class WideLowToHigh(nn.Sequential):
    """[B, 3, 16, 16] to [B, 3, 64, 64] in the layout of LRGAN's released network."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 256, 3, padding=1),
            *(ResidualBlock(256) for _ in range(12)),
            *(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(256, 128, 1)),
            *(ResidualBlock(128) for _ in range(3)),
            *(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(128, 96, 1)),
            *(ResidualBlock(96) for _ in range(2)),
            nn.Conv2d(96, 3, 3, padding=1),
        )


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    times = []
    for repeat in range(repeats + 2):
        begin = time.perf_counter()
        call()
        if repeat >= 2:
            times.append(1000 * (time.perf_counter() - begin))
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    wide = channels_last(WideLowToHigh()).eval()
    plain = TorchNetwork(load_method(DEFAULT_MODEL, CPU), CPU)
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "cr.onnx"
        export_onnx(DEFAULT_MODEL, graph, STRENGTH)
        onnx = OnnxNetwork.load(graph)
    quick = Upscaler.load(device="cpu").network

    def lrgan(faces: np.ndarray, strength: float) -> object:
        with torch.no_grad():
            return wide(to_tensor(faces))

    networks = {
        "torch, as trained": plain,
        "torch, as charreg upscale runs it": quick,
        "onnxruntime": onnx,
        f"LRGAN's layout ({sum(p.numel() for p in wide.parameters()) / 1e6:.1f} M)": lrgan,
    }
    rows = []
    for batch in (1, 64):
        faces = np.random.default_rng(0).integers(0, 256, (batch, 16, 16, 3), np.uint8)
        count = args.repeats if batch == 1 else max(4, args.repeats // 5)
        found = {name: milliseconds(partial(network, faces, STRENGTH), count) for name, network in networks.items()}
        slowest = list(found.values())[-1]
        rows += [[name, batch, ms, ms / batch, slowest / ms] for name, ms in found.items()]
    print_table(["", "batch", "ms", "ms a face", "times as quick as LRGAN's layout"], rows)


if __name__ == "__main__":
    main()
