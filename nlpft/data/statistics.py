"""What a tokenized dataset holds, counted on its columns batch by batch: lengths, answers, masks, copies, scripts."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nlpft.data import view
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError
from nlpft.types import IGNORE

BATCH = 4_096  # rows that are counted together, at most: it bounds the memory
LARGEST_VOCABULARY = 1 << 24  # no tokenizer comes near it
SAMPLE = 2_000  # rows whose text is looked at, evenly spread over the dataset
TOKENS = 1_000  # learnt tokens of each that are looked at
KANA_SHARE = 0.05  # of the Han and Kana letters of a text, above which they are Japanese


class Masks(NamedTuple):
    """Counts for each row, int64 [rows]."""

    lengths: np.ndarray  # tokens
    learnt: np.ndarray  # learnt tokens
    answers: np.ndarray  # runs of learnt tokens: one for each answer, end of turn included


class Contents(NamedTuple):
    """What the rows' ids are."""

    hashes: np.ndarray  # uint64 [rows]; equal where all ids are
    counts: np.ndarray  # int64 [ids]: how often each id occurs


class Copies(NamedTuple):
    """Rows that are exact copies of an earlier one."""

    rows: int
    groups: list[tuple[str, str, int]]  # places of the first and the second, how many more; the largest groups


class Scripts(NamedTuple):
    """Writing of the learnt text of a sample of rows, by Unicode's names of scripts."""

    rows: int  # in the sample
    main: dict[str, int]  # script -> rows that have most of their letters in it
    letters: dict[str, int]  # script -> letters


def masks(table: pa.Table) -> Masks:
    """Lengths and learnt tokens of the rows of `table`, whose labels are unshifted."""
    found = [_masks(*flat) for flat in _flat(table, "labels")]
    return Masks(*(np.concatenate(column) for column in zip(*found, strict=True)))


def contents(table: pa.Table) -> Contents:
    """Hashes of the rows of `table` and counts of its ids. Raises DataError where a number is no token's id."""
    hashes, counts = [], np.zeros(1, np.int64)
    for ids, offsets in _flat(table, "input_ids"):
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < LARGEST_VOCABULARY:
            raise DataError(f"input_ids hold {ids.min()} to {ids.max()}: these are no ids of tokens")
        hashes.append(_hashes(ids, offsets))
        counts = _sum(counts, np.bincount(ids, minlength=len(counts)))
    return Contents(np.concatenate(hashes), counts)


def summary(counted: Masks) -> dict[str, str]:
    """Rows, tokens, learnt share and lengths of a dataset with at least one row, in words."""
    low, median, high, top = np.percentile(counted.lengths, [0, 50, 95, 100]).round().astype(int)
    tokens, learnt = int(counted.lengths.sum()), int(counted.learnt.sum())
    nothing = int((counted.learnt == 0).sum())
    return {
        "rows": f"{len(counted.lengths):,}",
        "tokens": f"{tokens:,}",
        "learnt": f"{learnt:,} ({learnt / max(1, tokens):.1%})",
        "length": f"min {low:,}, median {median:,}, p95 {high:,}, max {top:,} tokens",
        **({"unlearnt": f"{nothing:,} rows have no learnt token"} if nothing else {}),
    }


def by_doubling(numbers: np.ndarray) -> dict[str, int]:
    """How many of `numbers` [n] lie up to each power of two and above the one before."""
    powers = np.ceil(np.log2(np.maximum(numbers, 1))).astype(int)
    counts = np.bincount(powers)
    return {f"≤ {2**i:,}": int(counts[i]) for i in range(int(powers.min()), len(counts))}


def by_number(numbers: np.ndarray, top: int = 12) -> dict[str, int]:
    """How many of `numbers` [n] are 0, 1, 2 ..., and `top` or more."""
    counts = np.bincount(np.minimum(numbers, top))
    names = [str(i) if i < top else f"{top}+" for i in range(len(counts))]
    first = int(np.flatnonzero(counts)[0])
    return dict(zip(names[first:], counts.tolist()[first:], strict=True))


def by_share(parts: np.ndarray, wholes: np.ndarray) -> dict[str, int]:
    """How many of the shares of `parts` in `wholes` [n] fall into each tenth; a share of exactly 1 into the last."""
    tenths = np.minimum(10 * parts // np.maximum(wholes, 1), 9)
    return {f"{10 * i}–{10 * i + 10} %": int(n) for i, n in enumerate(np.bincount(tenths, minlength=10))}


def copies(table: pa.Table, found: Contents, most: int) -> Copies:
    """The copies in `table`, with at most `most` groups of them named."""
    groups = alike(found.hashes)
    named = []
    for group in groups[:most]:
        first, second = (view.row(table, number).place for number in group[:2].tolist())
        named.append((first, second, len(group) - 2))
    return Copies(sum(map(len, groups)) - len(groups), named)


def alike(hashes: np.ndarray) -> list[np.ndarray]:
    """Numbers of the rows that are alike, a group for each text that occurs more than once, the largest first."""
    order = np.argsort(hashes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(hashes[order])) + 1)
    return sorted((g for g in groups if len(g) > 1), key=lambda g: (-len(g), int(g[0])))


def special(found: Contents, tokenizer: TextTokenizer) -> dict[str, int]:
    """How often each special token of `tokenizer` occurs, the most frequent first; those that never do are left out."""
    times = {text: int(found.counts[token]) for text, token in tokenizer.special.items() if token < len(found.counts)}
    return dict(sorted(((text, n) for text, n in times.items() if n), key=lambda item: -item[1]))


def scripts(table: pa.Table, tokenizer: TextTokenizer) -> Scripts:
    """Scripts of the learnt text of at most SAMPLE rows; of a row's learnt tokens, the first TOKENS count.

    What the chat template writes is in the script of its author, whatever the conversation's: learnt text has none of it.
    """
    letters: Counter[str] = Counter()
    main: Counter[str] = Counter()
    numbers = np.unique(np.linspace(0, len(table) - 1, min(SAMPLE, len(table))).astype(int)).tolist()
    for number in numbers:
        row = view.row(table, number)
        ids = row.ids[row.learnt][:TOKENS]
        view.check(row._replace(ids=ids), tokenizer)
        found = letters_by_script(view.text_of(ids[~np.isin(ids, list(tokenizer.special.values()))], tokenizer))
        letters.update(found)
        main[found.most_common(1)[0][0] if found else "no letters"] += 1
    return Scripts(len(numbers), dict(main.most_common()), dict(letters.most_common()))


def letters_by_script(text: str) -> Counter[str]:
    """Characters of `text` by script; digits, punctuation, emoji and the like belong to none. Han with Kana is Japanese."""
    codes, counts = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_counts=True)
    found: Counter[str] = Counter()
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        found[_script(code)] += count
    del found[""]
    kana = found["Hiragana"] + found["Katakana"]
    if kana > KANA_SHARE * (kana + found["Han"]):
        found["Japanese"] = sum(found.pop(name) for name in ("Han", "Hiragana", "Katakana") if name in found)
    return +found


@cache
def _script(code: int) -> str:
    """Name of the script of a code point (Unicode Standard Annex 24); '' for those common to all."""
    from fontTools import unicodedata  # Unicode's own table; Python's unicodedata lacks it

    script = unicodedata.script(chr(code))
    return "" if script in ("Zyyy", "Zinh", "Zzzz") else unicodedata.script_name(script).replace("_", " ")


def _flat(table: pa.Table, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A column of lists, batch by batch: its integers, int32 [tokens], and where each row begins, int64 [rows + 1]."""
    for batch in table.select([name]).to_batches(max_chunksize=BATCH):
        lengths = pc.list_value_length(batch.column(0))
        lengths = view.integers(lengths.fill_null(0) if lengths.null_count else lengths)
        yield view.integers(batch.column(0).flatten()), np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _masks(labels: np.ndarray, offsets: np.ndarray) -> Masks:
    learnt = labels != IGNORE
    first = learnt.copy()
    first[1:] &= ~learnt[:-1]
    begins = offsets[:-1][offsets[:-1] < len(labels)]
    first[begins] = learnt[begins]  # no run goes over the edge of a row
    return Masks(np.diff(offsets), _by_row(learnt, offsets), _by_row(first, offsets))


def _by_row(mask: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """How often `mask` is set in each row."""
    return np.diff(np.searchsorted(np.flatnonzero(mask), offsets))


def _hashes(ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    data = ids.view(np.uint8).data
    edges = itertools.pairwise((4 * offsets).tolist())
    digests = [hashlib.blake2b(data[start:end], digest_size=8).digest() for start, end in edges]
    return np.frombuffer(b"".join(digests), np.uint64)


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of two arrays of counts, `b` being at least as long as `a`."""
    b[: len(a)] += a
    return b
