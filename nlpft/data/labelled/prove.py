"""Proof that ids stand for their texts: they are spelt by the vocabulary's own entries and compared with what was encoded.

A vocabulary that keeps bytes must give them all back. One that does not (WordPiece, Unigram) must give back every character of
the normalized text but blanks, unless the text has an unknown token.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from nlpft.data.columns import binary, int32
from nlpft.data.engines import Encoded
from nlpft.data.labelled.encode import offsets
from nlpft.data.prove import LOST_BYTES, WRONG_TEXT
from nlpft.data.tokenizer import TextTokenizer
from nlpft.data.vocabulary import BYTE

BLANK = "\u2581"  # as SentencePiece's vocabularies write it


def unproven(encoded: Encoded, texts: Sequence[str], tokenizer: TextTokenizer) -> dict[int, str]:
    """LOST_BYTES (the ids stand for the text without bytes that the vocabulary lacks) or WRONG_TEXT, by number of the text."""
    spelt = _spelt(encoded, tokenizer)
    if tokenizer.vocabulary.token_bytes is not None:
        differ = [i for i, text in enumerate(texts) if spelt[i] != text.encode()]
        return {i: why for i in differ if (why := _lost(spelt[i], texts[i], tokenizer))}
    unknown = np.add.reduceat(
        np.append(encoded.ids == tokenizer.vocabulary.unknown, False), offsets(encoded.lengths)[:-1]
    ) * (encoded.lengths > 0)
    return {
        i: WRONG_TEXT
        for i, text in enumerate(texts)
        if not unknown[i] and _solid(spelt[i].decode("utf-8", "replace")) != _solid(tokenizer.normalized(text))
    }


def _lost(found: bytes, text: str, tokenizer: TextTokenizer) -> str:
    whole = tokenizer.normalized(text).encode()
    if found == whole:
        return ""
    return LOST_BYTES if found == whole.translate(None, tokenizer.vocabulary.lacking) else WRONG_TEXT


def _solid(text: str) -> str:
    """Without blanks."""
    return "".join(text.replace(BLANK, " ").split())


def _spelt(encoded: Encoded, tokenizer: TextTokenizer) -> list[bytes]:
    """What the ids of each text stand for."""
    if not len(encoded.ids):
        return [b""] * len(encoded.lengths)
    table = tokenizer.vocabulary.token_bytes
    words = pc.take(entries(tokenizer) if table is None else table, int32(encoded.ids))
    _, ends, data = words.buffers()
    edges = np.frombuffer(ends, np.int32)[words.offset : words.offset + len(words) + 1][
        offsets(encoded.lengths)
    ].tolist()
    text = bytes(data) if data else b""
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def entries(tokenizer: TextTokenizer) -> pa.Array:
    """The characters that each id stands for, where a vocabulary does not keep bytes; binary [ids]."""
    model = orjson.loads(tokenizer.vocabulary.plain)["model"]
    known = model["vocab"]
    inner = model.get("continuing_subword_prefix") or ""
    table = [b""] * len(tokenizer.vocabulary.is_special)
    pairs = known.items() if isinstance(known, dict) else ((entry[0], i) for i, entry in enumerate(known))
    for word, number in pairs:
        table[number] = bytes([int(word[3:5], 16)]) if BYTE.fullmatch(word) else word.removeprefix(inner).encode()
    return binary(table)
