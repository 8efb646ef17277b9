"""Keys and values of rows that are being written to: one block of memory for each layer, the rows that go on at its front."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nlpft.models.planned_attention import Plan


class KeptKeys:
    """Room for `rows` rows of up to `longest` tokens; a layer's block is made when its first keys come."""

    def __init__(self, rows: int, longest: int) -> None:
        self.rows, self.longest = rows, longest
        self.blocks: dict[int, tuple[Tensor, Tensor]] = {}  # by layer: keys, values [rows, key heads, longest, dim]

    def reading(self, places: Mapping[int, Tensor], plan: Plan) -> Plan:
        """`plan`, which also keeps the keys and values of each row, whose tokens stand at `places` [tokens]."""

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
            for block, fresh in zip(self._block(layer, k, v), (k, v), strict=True):
                for row, where in places.items():
                    block[row, :, : len(where)] = fresh[where].transpose(0, 1)
            return plan(layer, q, k, v, scale)

        return attend

    def after(self, lengths: Sequence[int], device: torch.device) -> Plan:
        """The plan of one new token for each of the first len(lengths) rows, which hold `lengths` tokens before it."""
        count, longest = len(lengths), max(lengths) + 1
        ends = torch.tensor(lengths, device=device)
        rows = torch.arange(count, device=device)
        unseen = torch.arange(longest, device=device) > ends[:, None]
        masks: dict[torch.dtype, Tensor] = {}

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
            if q.dtype not in masks:
                masks[q.dtype] = torch.zeros_like(unseen, dtype=q.dtype).masked_fill_(unseen, -torch.inf)[:, None, None]
            keys, values = self._block(layer, k, v)
            keys[rows, :, ends], values[rows, :, ends] = k, v
            # The heads that share keys stand as queries of one head: nothing is repeated.
            asked = q.unflatten(1, (k.shape[1], -1))
            bias = masks[q.dtype].expand(-1, -1, asked.shape[2], -1)
            keys, values = (x[:count, :, :longest] for x in (keys, values))
            return F.scaled_dot_product_attention(asked, keys, values, bias, scale=scale).flatten(1, 2)

        return attend

    def move(self, source: int, place: int, length: int) -> None:
        """Put row `source`, of `length` tokens, in the place of another."""
        for blocks in self.blocks.values():
            for block in blocks:
                block[place, :, :length] = block[source, :, :length]

    def _block(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if layer not in self.blocks:
            keys, values = (x.new_zeros(self.rows, x.shape[1], self.longest, x.shape[2]) for x in (k, v))
            self.blocks[layer] = keys, values
        return self.blocks[layer]


def bytes_per_token(model: Any) -> int:
    """Of keys and values over all layers, as the configuration says."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * next(model.parameters()).element_size()
