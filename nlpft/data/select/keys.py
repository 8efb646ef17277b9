"""Content keys: 64 bits (xxh3) that are equal for rows of equal roles, texts and tools, and numbers drawn from them."""

import functools
import json

from xxhash import xxh3_64_intdigest

from nlpft.types import Conversation

WORD = (1 << 64) - 1


def content_key(conversation: Conversation) -> int:
    """64 bits of all that a template sees: roles, texts, tool calls and tools, or the raw text; not id, source, notes, `train`.

    Two different rows of a million share a key with a probability of 3e-8.
    """
    if not conversation.messages:
        return _digest(conversation.text, 0)
    roles, contents, _, calls = zip(*conversation.messages, strict=True)
    key = _of_roles(roles)
    for content in contents:
        key = _digest(content, key)
    if conversation.tools or any(calls):
        key = _digest(json.dumps((conversation.tools, calls), sort_keys=True), key)
    return key


@functools.lru_cache(4096)
def _of_roles(roles: tuple[str, ...]) -> int:
    return xxh3_64_intdigest(" ".join(roles).encode())


def _digest(text: str, seed: int) -> int:
    """The hash of `text` that begins from another hash, so that ("ab", "c") and ("a", "bc") differ."""
    return xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"), seed)


def uniform(key: int, seed: int, purpose: str) -> float:
    """A number in (0, 1) that key, seed and purpose decide; other purposes draw independently of it."""
    digest = xxh3_64_intdigest(key.to_bytes(8, "little") + purpose.encode(), seed & WORD)
    return ((digest >> 12) + 0.5) / (1 << 52)
