"""A model as one ONNX graph, and the graph in onnxruntime (extra `[onnx]`)."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.faces import LR_SIZE, Pixels
from charreg.core.files import write_bytes
from charreg.core.methods import Method, load_method
from charreg.core.tensors import to_images

INSTALL = "wants onnxruntime and onnx; pip install 'charreg[onnx]'"


class OneGraph(nn.Module):
    """G [N, 3, 16, 16] and strength, a scalar, to R [N, 3, 16, 16] and S [N, 3, 64, 64], all in [-1, 1]."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.phi_cr, self.method = method.phi_cr, method
        self.phi_sr = method.phi_sr

    def forward(self, G: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        R = G if self.phi_cr is None else G + strength * (self.phi_cr(G) - G)
        return R, self.method.enlarge(R)


def export_onnx(model: Path, out: Path, strength: float) -> None:
    """Write a model folder as an ONNX graph with any number of faces and the strength as an input.

    strength: the default of who reads it again, kept in the graph's metadata. Raises CharregError.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  torch exports with it
    except ImportError:
        raise CharregError(f"{out}: export {INSTALL}") from None
    if out.suffix != ".onnx":
        raise CharregError(f"{out}: found suffix {out.suffix!r}, wanted .onnx")
    graph = OneGraph(load_method(model, torch.device("cpu"))).eval()
    example = (torch.zeros(2, 3, LR_SIZE, LR_SIZE), torch.tensor(strength))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            verbose=False,
            input_names=["genuine", "strength"],
            output_names=["regulated", "resolved"],
            dynamic_shapes=({0: torch.export.Dim("faces")}, None),
        )
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"charreg_strength": f"{strength:g}"})
    write_bytes(out, proto.SerializeToString())


@dataclass(frozen=True)
class OnnxNetwork:
    """A graph of `export_onnx` in onnxruntime, on as many threads as torch would take."""

    session: Any
    strength: float

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open a graph. Raises CharregError without onnxruntime and for anything but such a graph."""
        try:
            import onnxruntime
        except ImportError:
            raise CharregError(f"{path}: {INSTALL}") from None
        if path.suffix != ".onnx" or not path.is_file():
            raise CharregError(f"{path}: no .onnx file, wanted what charreg export writes")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            strength = float(session.get_modelmeta().custom_metadata_map["charreg_strength"])
        except Exception as error:  # it raises classes of its own for damaged files
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CharregError(f"{path}: {reason}; wanted a graph that charreg export writes") from None
        return cls(session, strength)

    def __call__(self, lr: Pixels, strength: float) -> tuple[Pixels, Pixels]:
        G = lr.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        inputs = {"genuine": G, "strength": np.array(strength, np.float32)}
        R, S = (torch.from_numpy(np.array(output)) for output in self.session.run(None, inputs))
        return to_images(R), to_images(S)
