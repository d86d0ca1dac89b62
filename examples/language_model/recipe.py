"""A small transformer that foretells the next character, on one process or on several that share each layer."""

import torch
from torch import Tensor, nn
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

CONTEXT, HEAD = 32, 16  # characters that it sees; width of one attention head


class CharacterModel:
    def __init__(self, width: int = 64, layers: int = 2) -> None:
        self.width, self.layers = width, layers

    def model(self) -> nn.Module:
        return Transformer(len(self.facts.classes) + 1, self.width, self.layers)

    def example(self, row: dict, **_train_and_rng: object) -> dict[str, Tensor]:
        number = {character: at for at, character in enumerate(self.facts.classes)}
        other = len(number)  # padding, and characters that nothing ever ended with
        tokens = [number.get(character, other) for character in row["context"][-CONTEXT:]]
        return {"tokens": torch.tensor([other] * (CONTEXT - len(tokens)) + tokens)}

    def loss(self, outputs: Tensor, batch: dict) -> Tensor:  # each character from those before it
        following = torch.cat([batch["tokens"][:, 1:], batch["label"][:, None]], dim=1)
        return nn.functional.cross_entropy(outputs.transpose(1, 2), following)

    def predict(self, outputs: Tensor) -> list[dict]:  # (B, T, C + 1) -> what comes after the last character
        chances = outputs[:, -1, :-1].detach().float().softmax(dim=-1)
        return [{"prediction": int(row.argmax()), "score": float(row.max()), "probabilities": row.tolist()}
                for row in chances]  # fmt: skip

    def parallelize(self, model: nn.Module, mesh) -> nn.Module:  # each process has some heads, some hidden units
        first, second = ColwiseParallel(), RowwiseParallel()
        plan = {"query": first, "key": first, "value": first, "out": second, "up": first, "down": second}
        for block in model.blocks:
            parallelize_module(block, mesh, plan)
        return model


class Transformer(nn.Module):
    def __init__(self, characters: int, width: int, layers: int) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(characters, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, characters)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T) -> (B, T, C + 1)
        x = self.characters(tokens) + self.places.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        seen = self.before(x)
        # -1 heads: as many as this process has
        q, k, v = (f(seen).unflatten(-1, (-1, HEAD)).transpose(1, 2) for f in (self.query, self.key, self.value))
        mixed_BHTE = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed_BHTE.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.between(x))))
