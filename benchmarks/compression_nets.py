"""The nets of the compression benchmark, as a recipe file that is packed as it is. Weights are random, seeded."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions and what goes around them (He et al., arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        plain = stride == 1 and inputs == outputs
        around = (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.around = nn.Identity() if plain else nn.Sequential(*around)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inner + self.around(x))


class ResNet18Net(nn.Module):
    """11.7 million parameters, 1.8 billion multiplications for a picture of 224 x 224."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        sizes = [(width, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2), (4 * width, 8 * width, 2)]
        self.blocks = nn.Sequential(
            *(block for i, o, stride in sizes for block in (Block(i, o, stride), Block(o, o, 1)))
        )
        self.fc = nn.Linear(8 * width, 1000)

    def forward(self, image: Tensor) -> Tensor:  # (B, 3, 224, 224) -> (B, 1000)
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(image))), 3, 2, 1)
        return self.fc(self.blocks(x).mean((2, 3)))


class Layer(nn.Module):
    """Attention and feed-forward, each with its norm behind it, as BERT has them (Devlin et al., arXiv 1810.04805)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, W) -> (B, T, W)
        B, T, W = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights_BHTT = torch.softmax(q @ k.transpose(-1, -2) * (W // self.heads) ** -0.5, -1)
        x = self.norm1(x + self.out((weights_BHTT @ v).transpose(1, 2).reshape(B, T, W)))
        return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))


class EncoderNet(nn.Module):
    """BERT-base with four layers: 52 million parameters, 128 tokens."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(30522, 768), nn.Parameter(0.02 * torch.randn(128, 768))
        self.norm = nn.LayerNorm(768)
        self.layers = nn.Sequential(*(Layer(768, 12) for _ in range(layers)))
        self.head = nn.Linear(768, 2)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, 128) -> (B, 2)
        x_BTW = self.layers(self.norm(self.tokens(tokens) + self.places[: tokens.shape[1]]))
        return self.head(x_BTW[:, 0])


class ResNet18:
    """The recipe of the one."""

    def __init__(self, width: int = 64) -> None:
        self.width = width

    def model(self) -> nn.Module:
        return ResNet18Net(self.width)

    def loss(self, outputs: Tensor, batch: dict) -> Tensor:
        return nn.functional.cross_entropy(outputs, batch["label"])


class Encoder:
    """The recipe of the other."""

    def __init__(self, layers: int = 4) -> None:
        self.layers = layers

    def model(self) -> nn.Module:
        return EncoderNet(self.layers)

    def example(self, row: dict, *, train: bool, rng: object) -> dict:  # noqa: ARG002  (the recipe's contract)
        return {"tokens": torch.as_tensor(row["tokens"]).long()}

    def loss(self, outputs: Tensor, batch: dict) -> Tensor:
        return nn.functional.cross_entropy(outputs, batch["label"])
