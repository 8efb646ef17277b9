"""The one call of a model with a head, on rows without padding where that is exact, which is found out when a run starts."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from nlpft.errors import ConfigError, ModelError
from nlpft.models import attention
from nlpft.models.blocks import blocks
from nlpft.models.forward import distance
from nlpft.models.heads import task_of, with_head
from nlpft.types import Layout

Batch = dict[str, Tensor]
# Rows of token ids become a batch, all of whose tokens are targets.
Build = Callable[[Sequence[Sequence[int]], Layout], Batch]
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # share of the logits' size; rounding only
ROUGH = 0.1  # in half precision
# Arguments of what follows the attention: its projection, and the sum with the block's input.
BERT_OUTPUT = ["hidden_states", "input_tensor"]


def logits(model: nn.Module, batch: Batch) -> Tensor:
    """Outputs of the head [targets, outputs] for a batch of `nlpft.data.examples`.

    Packed ([1, time] with `cu_seqlens`): the body sees the rows without padding, each by itself, and the head only the features
    at `positions` [targets], as rows of one token. With `features` [targets, width]: the head alone. Padded ([rows, time] with
    `attention_mask`): the model's own forward. With `partner` and `share` [targets]: features are mixed with another target's.
    """
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    if "cu_seqlens" not in batch:
        found = model(**inputs).logits
        return found.flatten(0, 1)[batch["positions"]] if found.ndim == 3 else found
    body = with_head(model).base_model
    with _packed(body, batch):
        read = batch["input_ids"][0, batch["positions"]][:, None]
        # position_ids: NEFTune's hook on the body looks there for where rows begin.
        return model(input_ids=read, position_ids=batch["position_ids"]).logits.flatten(0, -2)


@torch.no_grad()
def features(model: nn.Module, batch: Batch) -> Tensor:
    """What the body gives the head of a packed batch, [targets, width]: `batch` with them as `features` has the same logits."""
    body = with_head(model).base_model
    return _read(body, body.forward, batch).last_hidden_state[:, 0]


@contextlib.contextmanager
def _packed(body: Any, batch: Batch) -> Iterator[None]:
    """Within it `body` answers any call with the features of `batch` at its positions, [targets, 1, width].

    In the body's place, so that the call goes through whatever wraps the model, and its own head follows.
    """
    inherited = "forward" not in vars(body)
    compute = body.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = _read(body, compute, batch)
        output.last_hidden_state = mixed(output.last_hidden_state, batch)
        if getattr(body, "pooler", None) is not None:
            output.pooler_output = body.pooler(output.last_hidden_state)
        return output

    body.forward = forward
    try:
        yield
    finally:
        if inherited:
            del body.forward
        else:
            body.forward = compute


@contextlib.contextmanager
def _read_alone(body: Any, positions: Tensor) -> Iterator[bool]:
    """Within it the last block of `body` computes, behind its attention, the tokens at `positions` alone, and gives only those.

    Yields whether it does: in architectures of BERT's kind, where no compiler and no second forward pass would be in the way, and
    nobody listens to the block, who would miss tokens.
    """
    block = blocks(body)[-1]
    part = getattr(getattr(block, "attention", None), "output", None)
    kind = isinstance(part, nn.Module) and list(inspect.signature(part.forward).parameters) == BERT_OUTPUT
    if (
        part is None
        or not kind
        or "forward" in vars(block)
        or getattr(block, "gradient_checkpointing", False)
        or block._forward_hooks
    ):
        yield False
        return
    hook = part.register_forward_pre_hook(lambda _, args: tuple(x[0].index_select(0, positions)[None] for x in args))
    try:
        yield True
    finally:
        hook.remove()


def mixed(values: Tensor, batch: Batch) -> Tensor:
    """`values` [targets, ...], each with its partner's by its share where `batch` names partners (mixup, Zhang et al. 2018)."""
    if "partner" not in batch:
        return values
    share = batch["share"].to(values.dtype).view(-1, *[1] * (values.ndim - 1))
    return share * values + (1 - share) * values[batch["partner"]]


def _read(body: Any, compute: Callable[..., Any], batch: Batch) -> Any:
    """The body's output, its features only at the positions of `batch`, [targets, 1, width]; `compute`: forward of `body`."""
    if "features" in batch:
        return BaseModelOutputWithPoolingAndCrossAttentions(last_hidden_state=batch["features"][:, None])
    inputs = {name: batch[name] for name in ("input_ids", "position_ids", "token_type_ids") if name in batch}
    bounds, longest = batch["cu_seqlens"], int(batch["max_seqlen"])
    rows = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}
    with _read_alone(body, batch["positions"]) as alone:
        output = compute(**inputs, **rows, return_dict=True)
    found = output.last_hidden_state[0]
    output.last_hidden_state = (found if alone else found[batch["positions"]])[:, None]
    return output


@torch.no_grad()
def choose(model: Any, build: Build, computes: torch.dtype | None = None) -> Layout:
    """The fastest layout in which `model` gives the logits that it gives for each row alone, tried on two rows of random tokens.

    model: on its device. computes: the type of its products, where that is not its weights': masters in float32 under autocast
    are multiplied in bfloat16, and agree as far as that goes.
    Packed where its attention is `varlen` and the logits agree; else padded, by torch's SDPA: the model's attention is set so.
    Raises ModelError where not even that agrees.
    """
    own, training = with_head(model), model.training
    allowed = TOLERANCE.get(computes or next(model.parameters()).dtype, ROUGH)
    model.eval()
    pad = own.config.get_text_config().pad_token_id or 0
    types = getattr(own.config, "type_vocab_size", 0) > 1
    rows = _probe(own, pad)
    reads: tuple[Any, ...] = ("labelled",) if task_of(model).kind == "tagging" else ("first", "last")
    with attention.plain(own):
        alone = torch.cat([_alone(model, row) for row in rows])
    try:
        if attention.implementation(own) == attention.NAME:
            for read, first in itertools.product(reads, (0, pad + 1)):
                layout = Layout(True, read, first, pad, types)
                if _agrees(model, layout, build, rows, alone, allowed):
                    return _with_noise(own, layout)
            own.set_attn_implementation(attention.PLAIN)
        layout = Layout(False, reads[0], 0, pad, types)
        if _agrees(model, layout, build, rows, alone, allowed):
            return _with_noise(own, layout)
    finally:
        model.train(training)
    raise ModelError(
        f"{type(own).__name__}: its logits of a text depend on the other texts of a batch; take another model"
    )


def _with_noise(model: Any, layout: Layout) -> Layout:
    """`layout`. Raises ConfigError where the embeddings are to have noise that it does not tell the rows' lengths of."""
    noisy = hasattr(model.get_input_embeddings(), "noise_alpha")
    if noisy and not (layout.packed and layout.first_position == 0):
        raise ConfigError(
            f"regularize.neftune: {type(model).__name__} takes no packed rows whose positions begin at 0, by which the noise "
            "finds a row's length; leave it unset"
        )
    return layout


def _agrees(model: Any, layout: Layout, build: Build, rows: list[Tensor], alone: Tensor, allowed: float) -> bool:
    made = build([row.tolist() for row in rows], layout)
    batch = {name: x.to(alone.device) if x.ndim else x for name, x in made.items()}
    try:
        found = logits(model, batch)
    except (TypeError, IndexError, RuntimeError, ModelError):  # an architecture that takes no such call
        return False
    return found.shape == alone.shape and distance(found, alone) <= allowed


def _alone(model: Any, row: Tensor) -> Tensor:
    found = model(input_ids=row[None]).logits
    return found.flatten(0, -2)


def _probe(model: Any, pad: int) -> list[Tensor]:
    """Two rows of random tokens, none of them the padding."""
    size, device = model.config.get_text_config().vocab_size, next(model.parameters()).device
    draw = torch.Generator().manual_seed(0)
    tokens = (pad + 1 + torch.randint(0, size - 1, (24,), generator=draw)) % size
    return [tokens[:10].to(device), tokens[10:].to(device)]
