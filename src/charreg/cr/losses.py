"""Every loss of the method, named as in the paper (Cheng et al., WACV 2020; equation numbers are the paper's).

Symbols: H high-resolution face, A = DS(H) artificial LR face, G genuine LR face, R = phi_cr(G) regulated face,
P = phi_inv(A) pseudo-genuine face. Images lie in [-1, 1]. `mse` is a MEAN over batch, channels and pixels: the
published weights presume it. GAN losses take logits; generators use the non-saturating form.
"""

import torch.nn.functional as F
from torch import Tensor

from charreg.core.resampling import ds
from charreg.training.objectives import discriminator_loss, generator_loss, mse


def l_sr(S: Tensor, H: Tensor) -> Tensor:
    """Eq. 1-2: mse(phi_sr(A), H)."""
    return mse(S, H)


def l_d(logits_A: Tensor, logits_R: Tensor) -> Tensor:
    """Eq. 3: D tells ARTIFICIAL LR faces ("real") from regulated ones."""
    return discriminator_loss(real=logits_A, fake=logits_R)


def l_gan(logits_R: Tensor) -> Tensor:
    """Eq. 4: phi_cr makes D take regulated faces for artificial ones."""
    return generator_loss(logits_R)


def l_d_inv(logits_G: Tensor, logits_P: Tensor) -> Tensor:
    """Eq. 5, discriminator: D_inv tells GENUINE LR faces ("real") from pseudo-genuine ones."""
    return discriminator_loss(real=logits_G, fake=logits_P)


def l_inv(logits_P: Tensor) -> Tensor:
    """Eq. 5, generator: phi_inv makes D_inv take pseudo-genuine faces for genuine ones."""
    return generator_loss(logits_P)


def l_cr(A: Tensor, regulated_P: Tensor, logits_R: Tensor, lambda_gan: float) -> Tensor:
    """Eq. 6: mse(A, phi_cr(P)) + lambda_gan * L_gan; P comes detached from the frozen phi_inv."""
    return mse(A, regulated_P) + lambda_gan * l_gan(logits_R)


def l_cr_sr(S: Tensor, R: Tensor) -> Tensor:
    """Eq. 7, the unsupervised SR loss: mse(DS(phi_sr(R)), R)."""
    return mse(ds(S), R)


def l_df(logits_H: Tensor, logits_S: Tensor) -> Tensor:
    """Eq. 8, discriminator: Df tells features of HR faces ("real") from those of super-resolved genuine ones."""
    return discriminator_loss(real=logits_H, fake=logits_S)


def l_cr_gan(logits_S: Tensor) -> Tensor:
    """Eq. 8, generator: phi_sr and phi_cr make Df take super-resolved genuine faces for HR ones."""
    return generator_loss(logits_S)


def l_joint(
    sr: Tensor,
    cr: Tensor,
    cr_sr: Tensor,
    cr_gan: Tensor,
    lambda_cr: float,
    lambda_cr_sr: float,
    lambda_cr_gan: float,
) -> Tensor:
    """Eq. 9: L_sr + lambda_cr L_cr + lambda_cr_sr L_cr_sr + lambda_cr_gan L_cr_gan."""
    return sr + lambda_cr * cr + lambda_cr_sr * cr_sr + lambda_cr_gan * cr_gan


def l_recognition(logits: Tensor, labels: Tensor, features: Tensor, centres: Tensor, lambda_centre: float) -> Tensor:
    """Softmax cross-entropy + lambda_centre/(2M) * sum_i ||f_i - c_{y_i}||^2 (Wen et al. 2016, eq. 5)."""
    distance = (features - centres[labels]).square().sum(dim=1).mean()
    return F.cross_entropy(logits, labels) + lambda_centre / 2 * distance


def move_centres(centres: Tensor, features: Tensor, labels: Tensor, alpha: float) -> None:
    """Wen et al. 2016, eq. 4, in place: c_j -= alpha * sum_{i: y_i=j} (c_j - f_i) / (1 + n_j), classes of the batch.

    features [M, E] detached, labels [M], centres [C, E].
    """
    counts = centres.new_zeros(len(centres)).index_add_(0, labels, features.new_ones(len(labels)))
    sums = centres.new_zeros(centres.shape).index_add_(0, labels, centres[labels] - features)
    centres -= alpha * sums / (1 + counts)[:, None]
