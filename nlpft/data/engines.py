"""The programs that turn text into token ids: which of them are exact for a tokenizer, and which is fastest.

`tokenizers` is the reference. splintr and fastokens are 10 to 70 times as fast for byte-level BPE, each on other patterns; which
is used for a tokenizer is decided by comparing ids and by timing, once: the outcome is kept in the user's cache. Whatever an
engine cannot encode goes to the reference, text by text.
"""

import hashlib
import json
import multiprocessing
import os
import random
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from nlpft.files import write_text
from nlpft.versions import version

# Words, digits, blanks, scripts, code, control strings, broken sequences: where byte-level tokenizers have been seen to differ.
PROBES = (
    "Hello world, it's 12345 o'clock. DON'T we'll I'M they'd",
    "  two  blanks\n\n\tand a tab\r\n \r\n\n  \n x",
    "<|im_start|>user\nforged<|im_end|></s>[INST]<s><|endoftext|>",
    "Ça va? Größe, naïve, e\u0301 vs \u00e9, \ufb01, İstanbul, ǅ, \u1e9e",
    "日本語のテキスト と中文，한국어 русский العربية हिन्दी ไทย עברית 🙂👩‍👩‍👧🏽",
    "def f(x):\n    return {'a': [x**2, 3.14e-10]}  # !?\n\t\t#\u00a0\u3000\u2028",
    "",
    " ",
    "a" * 300,
    "1234567890 ١٢٣ ½ ² Ⅷ 12,345.67 0x1F",
    "\u200b\u200d\ufeff\ufffd\ue000 \x7f\x1b[0m\x85",
    "http://example.com/a?b=c&d=%20#e foo_bar-baz...!!! ----- ======",
    "'s 'S 'll 'LL ''' \u2019s",
)
MARKS = [
    chr(point) for point in range(0x110000) if unicodedata.combining(chr(point))
]  # they are composed and reordered
OTHERS = ("a{}\u0301b", "a\u0301{}b", "a{}\u0323b", "a\u0323{}b")
MARKED = [form.format(mark) for mark in MARKS for form in OTHERS]
SAMPLE = 50_000  # characters made of the vocabulary's words that engines are compared on


@dataclass(frozen=True)
class Encoded:
    """Token ids of a batch of texts, one after the other."""

    ids: np.ndarray  # int32 [tokens]
    lengths: np.ndarray  # int64 [texts], tokens of each


Encode = Callable[[list[str]], Encoded]  # raises whatever the engine raises for what it cannot encode


def load(name: str, spec: bytes) -> Encode:
    """Engine `name` for a tokenizer's specification (JSON), which names no special tokens, so that none is found in a text."""
    return LOADERS[name](spec)


class Choice(NamedTuple):
    """The engine that encodes, and the characters of which it does something else than the reference."""

    name: str
    unfit: str = ""  # texts that hold one of these go to the reference


def choose(spec: bytes, key: str, size: int, cache: Path, texts: Callable[[], Sequence[str]]) -> Choice:
    """The engine that takes the least time to load and to encode `size` bytes, of those that are exact for this tokenizer.

    `key` stands for the tokenizer in `cache`, where the comparison on `texts()` (some of the corpus) is kept.
    """
    file = _known_at(key, cache)
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = _compare_apart(spec, texts())
        _keep(known, file)
    best = min(known, key=lambda name: known[name]["load_s"] + size / 1e6 / known[name]["mb_per_s"])
    return Choice(best, known[best]["unfit"])


def distrust(name: str, key: str, cache: Path) -> None:
    """Take engine `name` out of what is known of a tokenizer: it was seen to be inexact."""
    file = _known_at(key, cache)
    known = json.loads(file.read_text(encoding="utf-8"))
    known.pop(name, None)
    _keep(known, file)


def _known_at(key: str, cache: Path) -> Path:
    versions = "-".join(f"{name}{version(package) or 'none'}" for name, package in PACKAGES.items())
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return cache / "engines" / f"{key}-{versions}-{own}.json"


def _keep(known: dict[str, Any], file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(known, indent=2) + "\n")
    except OSError:
        pass  # a cache that cannot be written costs time, nothing else


def _compare_apart(spec: bytes, texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`compare`, in a process of its own: where splintr has been loaded, a forked process that loads it hangs."""
    with ProcessPoolExecutor(1, process_context(), initializer=one_thread) as apart:
        return apart.submit(compare, spec, texts).result()


def process_context() -> multiprocessing.context.BaseContext:
    """How to begin a process that will load engines: by forking, which shares what is in memory, where that is safe."""
    safe = sys.platform == "linux" and not {"splintr", "torch"} & sys.modules.keys()
    return multiprocessing.get_context("fork" if safe else "spawn")


def compare(spec: bytes, texts: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Load time (s), speed (MB/s, one thread) and unfit characters of the engines that give the ids of `tokenizers`.

    They are compared on PROBES, on words of the vocabulary and on `texts`, on which they are timed.
    """
    checks = [*PROBES, *_words(spec)]
    timed = list(texts) or checks
    size = sum(len(text.encode()) for text in timed)
    reference: list[Encoded] | None = None
    out = {}
    for name in LOADERS:  # the reference is first
        try:
            start = time.perf_counter()
            encode = load(name, spec)
            load_s = time.perf_counter() - start
            found = [encode(checks), encode(timed)]  # the second is timed below, when the engine is warm
            marks = encode(MARKED)
            seconds = min(_seconds(encode, timed) for _ in range(3))  # other processes come and go
        except Exception:
            if reference is None:
                raise
            continue
        if reference is None:
            reference, reference_marks = found, marks
        if all(map(_same, found, reference)):
            speed = {"load_s": round(load_s, 3), "mb_per_s": round(size / 1e6 / seconds, 2)}
            out[name] = {**speed, "unfit": _unfit(marks, reference_marks)}
    return out


def _seconds(encode: Encode, texts: list[str]) -> float:
    start = time.perf_counter()
    encode(texts)
    return time.perf_counter() - start


def _unfit(ours: Encoded, theirs: Encoded) -> str:
    """The marks in MARKED that are encoded otherwise: engines compose characters by different versions of Unicode."""
    texts = [np.split(e.ids, np.cumsum(e.lengths)[:-1]) for e in (ours, theirs)]
    differ = [not np.array_equal(a, b) for a, b in zip(*texts, strict=True)]
    return "".join(sorted({MARKS[i // len(OTHERS)] for i, differs in enumerate(differ) if differs}))


def _same(ours: Encoded, theirs: Encoded) -> bool:
    return np.array_equal(ours.ids, theirs.ids) and np.array_equal(ours.lengths, theirs.lengths)


def encode_rescued(encode: Encode, reference: Callable[[], Encode], texts: list[str]) -> Encoded:
    """`encode(texts)`; where it raises, the halves by themselves, and a single text by the reference."""
    try:
        return encode(texts)
    except Exception:  # noqa: BLE001 - bare exceptions, for what the vocabulary lacks
        if len(texts) <= 1:
            return reference()(texts)
    middle = len(texts) // 2
    parts = [encode_rescued(encode, reference, half) for half in (texts[:middle], texts[middle:])]
    return Encoded(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("ids", "lengths")))


def merged(encode: Encode, reference: Encode, texts: list[str], unfit: Sequence[bool]) -> Encoded:
    """`encode(texts)`, but for those that are `unfit` by the reference; in the order of `texts`."""
    mask = np.array(unfit, bool)
    halves = [
        call([text for text, out in zip(texts, unfit, strict=True) if out == which])
        for call, which in ((encode, False), (reference, True))
    ]
    pieces: list[Any] = [None] * len(texts)
    for half, places in zip(halves, (np.flatnonzero(~mask), np.flatnonzero(mask)), strict=True):
        for place, ids in zip(places.tolist(), np.split(half.ids, np.cumsum(half.lengths)[:-1]), strict=False):
            pieces[place] = ids
    return Encoded(np.concatenate(pieces), np.fromiter(map(len, pieces), np.int64, len(pieces)))


def by_tokenizers(engine: Any) -> Encode:
    """The encoder of a `tokenizers.Tokenizer`, which takes control strings in a text for ordinary text."""

    def encode(texts: list[str]) -> Encoded:
        engine.encode_special_tokens = True
        rows = [e.ids for e in engine.encode_batch_fast(texts, add_special_tokens=False)]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return Encoded(np.fromiter((i for row in rows for i in row), np.int32, int(lengths.sum())), lengths)

    return encode


def _tokenizers(spec: bytes) -> Encode:
    import tokenizers

    return by_tokenizers(tokenizers.Tokenizer.from_buffer(spec))


def _splintr(spec: bytes) -> Encode:
    import splintr

    engine = splintr.from_json_bytes(spec)
    return lambda texts: _flat(*engine.encode_batch_flat(texts))


def _fastokens(spec: bytes) -> Encode:
    import fastokens

    engine = fastokens._native.Tokenizer.from_json_str(spec.decode())
    return lambda texts: _flat(*engine.encode_batch_flat(texts))


def _flat(ids: bytes, offsets: bytes) -> Encoded:
    return Encoded(np.frombuffer(ids, np.int32), np.diff(np.frombuffer(offsets, np.int64)))  # no id has the highest bit


LOADERS: dict[str, Callable[[bytes], Encode]] = {
    "tokenizers": _tokenizers,
    "splintr": _splintr,
    "fastokens": _fastokens,
}
PACKAGES = {"tokenizers": "tokenizers", "splintr": "splintr-rs", "fastokens": "fastokens"}


def _words(spec: bytes) -> Sequence[str]:
    """Texts of about SAMPLE characters made of the vocabulary's own words, always the same ones."""
    draw = random.Random(0)
    vocabulary = orjson.loads(spec)["model"]["vocab"]
    words = list(vocabulary) if isinstance(vocabulary, dict) else [entry[0] for entry in vocabulary]
    words = sorted(word for word in words if 0 < len(word) < 20)
    if not words:
        return []
    chosen = draw.choices(words, k=SAMPLE // 6)
    text = "".join(chosen).translate({ord("Ġ"): " ", ord("Ċ"): "\n", ord("▁"): " "})
    return [text[i : i + 2_000] for i in range(0, len(text), 2_000)]


def one_thread() -> None:
    """Keep the engines that this process is about to load to one thread: the processes themselves run beside each other."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
