"""Where an answer ends: by the chat template, the tokenizer and the model's own settings, which may differ."""

from typing import Any

from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ModelError, RowRejected
from nlpft.models.pretrained import resolve
from nlpft.types import Message


def stops(model: Any, tokenizer: Any, name: str) -> list[int]:
    """Ids of the tokens that end an answer: the end of turn, by the chat template, and of the sequence.

    They may differ: a base model that was taught ChatML ends its sequences with one token and its turns with another.
    model: whatever has a `generation_config`, or None.
    """
    ends = model.generation_config.eos_token_id if model is not None else None
    found = [end_of_turn(name), tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])]
    known = list(dict.fromkeys(token for token in found if token is not None))
    if not known:
        raise ModelError(f"{name}: neither tokenizer nor chat template has a token that ends an answer")
    return known


def end_of_turn(name: str) -> int | None:
    """Id of the special token that the chat template puts behind an answer, if it is one that nlpft can take apart."""
    try:
        tokenizer = TextTokenizer(resolve(name, weights=False))
        template = tokenizer.chat_template()
        segments = template.segments([Message("user", "?"), Message("assistant", "!")])
    except (ModelError, RowRejected):
        return None
    ending = next((s.text for s in reversed(segments) if s.train and s.control), "")
    tokens = template.special.findall(ending)
    return tokenizer.special[tokens[-1]] if tokens else None
