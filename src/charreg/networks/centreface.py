"""phi_fr, the CentreFace recogniser (Wen et al., ECCV 2016), at 64x64."""

from torch import Tensor, nn

from charreg.networks.blocks import norm_layer


def _conv(before: int, after: int, batch_norm: bool, residual: bool = False) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=not residual)
    if residual:
        nn.init.normal_(convolution.weight, std=0.01)
    else:
        nn.init.xavier_uniform_(convolution.weight)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
    return [convolution, norm_layer("bn" if batch_norm else "none", after), nn.PReLU(after)]


class FaceBlock(nn.Module):
    """conv3x3 - PReLU - conv3x3 - PReLU plus identity; convolutions start small (std 0.01) and have no bias."""

    def __init__(self, width: int, batch_norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(width, width, batch_norm, residual=True), *_conv(width, width, batch_norm, residual=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class CentreFace(nn.Module):
    """[B, 3, 64, 64] in [-1, 1] to embeddings [B, embedding]: 27 convolutions, all padded, and one linear layer.

    width is a factor on every channel count; batch_norm goes beyond the paper. 26,488,224 parameters by default.
    """

    def __init__(self, width: float = 1.0, embedding: int = 512, batch_norm: bool = False) -> None:
        super().__init__()
        self.embedding = embedding
        c32, c64, c128, c256, c512 = (max(1, round(width * channels)) for channels in (32, 64, 128, 256, 512))
        layers = [*_conv(3, c32, batch_norm), *_conv(c32, c64, batch_norm), nn.MaxPool2d(2)]
        for channels, blocks, after in ((c64, 1, c128), (c128, 2, c256), (c256, 5, c512)):
            layers += [FaceBlock(channels, batch_norm) for _ in range(blocks)]
            layers += [*_conv(channels, after, batch_norm), nn.MaxPool2d(2)]
        layers += [FaceBlock(c512, batch_norm) for _ in range(3)]
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(4 * 4 * c512, embedding)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).flatten(1))  # type: ignore[no-any-return]
