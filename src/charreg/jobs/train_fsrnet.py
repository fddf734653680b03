"""FSRNet on artificial pairs and the landmarks of their HR faces (Chen et al., CVPR 2018).

L = mse(y_c, H) + fine_weight * mse(y, H) + prior_weight * l_prior, by RMSprop. `gan`: FSRGAN, which adds
content_weight * content(y, H) + adv_weight * E[sp(-D(y))]. Landmarks are used in training only, and come from the
index of the HR set.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from charreg.faces import LANDMARK_COLUMNS, LANDMARKS, FaceSet
from charreg.jobs.content import face_content
from charreg.jobs.peer import Inputs, PeerJob
from charreg.jobs.signals import SHEET_FACES, psnr, rows_of_faces
from charreg.losses import fool_loss, judge_loss, mse
from charreg.models import Blueprint
from charreg.networks.discriminators import Discriminator
from charreg.networks.fsrnet import FSRNet, Stages
from charreg.params import Fsrnet, Params
from charreg.resampling import up
from charreg.sampling import my_share
from charreg.training import Losses, without_gradients

MAP_SIZE = 32  # px
MIRRORED = [1, 0, 2, 4, 3]  # a mirrored face shows its right eye where LANDMARKS has the left one; likewise the mouth
CONTENT_FACES = 64  # pairs that set the scale of the content loss


def heat_maps(points: Tensor, size: int, sigma: float) -> Tensor:
    """Gaussians of peak 1 about points [B, K, 2] (x, y; px, the first pixel's centre is 0.5): [B, K, size, size].

    The map of a point that is not a number is zero.
    """
    centres = torch.arange(size, device=points.device) + 0.5
    x, y = torch.exp(-(points[..., None] - centres).square() / (2 * sigma**2)).nan_to_num(0.0).unbind(dim=2)
    return y[..., :, None] * x[..., None, :]


def l_prior(prior: Tensor, maps: Tensor, known: Tensor) -> Tensor:
    """mse(prior, maps) of [B, K, 32, 32]; maps that are not known ([B, K], 1 or 0) contribute nothing."""
    return mse(prior * known[..., None, None], maps * known[..., None, None])


class Landmarks:
    """The true prior maps of an HR set, from the landmarks in its index."""

    def __init__(self, faces: FaceSet, sigma: float, device: torch.device) -> None:
        points = faces.index[list(LANDMARK_COLUMNS)].to_numpy(np.float32).reshape(-1, len(LANDMARKS), 2)
        self.points: npt.NDArray[np.float32] = points * (MAP_SIZE / faces.images.shape[1])
        self.sigma, self.device = sigma, device

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which landmarks of which faces, [N, K]."""
        return np.asarray(np.isfinite(self.points).all(axis=2))

    def maps(self, indices: npt.NDArray[np.int64], flips: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """Heat maps [b, K, 32, 32] of chosen faces, mirrored where `flips` says so, and which are known, [b, K]."""
        points = torch.from_numpy(self.points[indices])
        mirrored = points[:, MIRRORED] * torch.tensor([-1.0, 1.0]) + torch.tensor([float(MAP_SIZE), 0.0])
        points = torch.where(torch.from_numpy(flips)[:, None, None], mirrored, points).to(self.device)
        return heat_maps(points, MAP_SIZE, self.sigma), points.isfinite().all(dim=2).float()


class TrainFsrnet(PeerJob):
    """FSRNet, or FSRGAN with the recogniser's features in the place of VGG's."""

    name = "fsrnet"

    def __init__(self, params: Params, inputs: Inputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = params.peers[self.name]
        assert isinstance(options, Fsrnet)
        self.options = options
        self.landmarks = Landmarks(inputs.hr, options.sigma, device)
        layout = {"width", "coarse_blocks", "encoder_blocks", "decoder_blocks", "hourglasses", "depth", "output"}
        arguments = {**options.model_dump(mode="json", include=layout), "maps": len(LANDMARKS)}
        network = self.add_network("super_resolver", Blueprint.of(FSRNet, arguments))
        assert isinstance(network, FSRNet)
        self.network = network
        self.add_rmsprop("fsrnet", network)
        if options.gan:
            judge = Blueprint.of(Discriminator, {"size": 64, "width": options.width})
            self.d = self.add_network("image_discriminator", judge)
            self.add_rmsprop("d", self.d)
            self.content = face_content(inputs.recogniser.to(device), *self.pairs.sample(CONTENT_FACES))
        self.label = self.row_label()

    def add_rmsprop(self, name: str, network: nn.Module) -> None:
        self.optimisers[name] = torch.optim.RMSprop(network.parameters(), lr=self.options.lr)
        self.rates[name] = self.options.lr

    def row_label(self) -> str:
        """Empty for FSRNet as published; otherwise what is different."""
        without = [] if self.options.prior_weight and self.landmarks.known.any() else ["no prior"]
        if not self.options.gan:
            return f"FSRNet ({without[0]})" if without else ""
        return f"FSRGAN ({', '.join([*without, 'face-feature content loss'])})"

    def step(self, step: int) -> Losses:
        A, H = self.pairs.batch(step)
        stream = self.pairs.stream
        maps, known = self.landmarks.maps(my_share(stream.indices(step)), my_share(stream.flips(step)))
        y_c, y, prior = self.network.stages(A)
        coarse, fine, guidance = mse(y_c, H), mse(y, H), l_prior(prior, maps, known)
        total = coarse + self.options.fine_weight * fine + self.options.prior_weight * guidance
        losses = {"l_coarse": coarse, "l_fine": fine, "l_prior": guidance}
        if not self.options.gan:
            self.descend("fsrnet", total)
            return losses
        judge = judge_loss(real=self.d(H), fake=self.d(y.detach()))
        self.descend("d", judge)
        with without_gradients(self.d):
            content, adversarial = self.content(y, H), fool_loss(self.d(y))
            total = total + self.options.content_weight * content + self.options.adv_weight * adversarial
            self.descend("fsrnet", total)
        return {**losses, "l_content": content, "l_d": judge, "l_adv": adversarial}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        A, H = self.pairs.sample(128)
        y_c = torch.cat([_stages(networks, part).coarse for part in A.split(64)])
        return {**super().health(networks), "psnr_coarse": psnr(y_c, H)}

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: artificial LR, bicubic, coarse, estimated landmarks (brightest of the K maps), fine, HR."""
        A, H = self.pairs.sample(SHEET_FACES)
        y_c, y, prior = _stages(networks, A)
        return rows_of_faces(A, up(A), y_c, prior.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1) * 2 - 1, y, H)


def _stages(networks: Mapping[str, nn.Module], A: Tensor) -> Stages:
    network = networks["super_resolver"]
    assert isinstance(network, FSRNet)
    return network.stages(A)
