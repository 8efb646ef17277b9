"""Keys of rows by their text: equal where two rows say the same, whatever the case of letters, blanks and Unicode's forms."""

import unicodedata
from collections.abc import Sequence

import numpy as np
from xxhash import xxh3_64_intdigest

from nlpft.data.labelled.example import Example

PARTED = "\x1f"  # between two texts


def normalized(text: str) -> str:
    """`text` in Unicode's form NFKC, in small letters, with single blanks."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(plain.casefold().split())


def text_key(example: Example) -> int:
    """64 bits for a row's text, texts, or words."""
    texts = [" ".join(example.words)] if example.words else [example.text, example.pair or ""]
    return xxh3_64_intdigest(PARTED.join(map(normalized, texts)).encode("utf-8", "surrogatepass"))


def text_keys(examples: Sequence[Example]) -> np.ndarray:
    """uint64 [rows]."""
    return np.fromiter(map(text_key, examples), np.uint64, len(examples))
