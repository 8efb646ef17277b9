"""What nlpft reads out of a `tokenizer.json`: bytes of each id, special tokens, and the file as each engine is to load it.

A vocabulary as Python objects takes 100 MB and more, and tenths of a second; what is kept of it are arrays and JSON text, also on
disk for the next time.
"""

import hashlib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import xxhash

from nlpft.data.columns import binary

BYTE = re.compile("<0x[0-9A-F]{2}>")


class Vocabulary(NamedTuple):
    """A tokenizer's specification, digested."""

    hash: str  # stands for the specification
    special: dict[str, int]  # special tokens and their ids
    is_special: np.ndarray  # bool [ids]; not the unknown token, which stands for text
    unknown: int  # id of the token for what the vocabulary lacks; -1: none
    token_bytes: pa.Array | None  # binary [ids]; None for tokenizers that lose bytes (WordPiece, Unigram)
    lacking: bytes  # those that a byte-level vocabulary has no token for: `tokenizers` drops them without a word
    may_prefix: bool  # whether a blank may be put before a text (SentencePiece)
    normalizer: str  # how texts are changed before they are encoded: '', the name of a Unicode form, or 'other'
    whole: bytes  # JSON: as the model is served
    part: bytes  # JSON: without that blank, as texts here are parts and no beginnings
    plain: bytes  # JSON: like `part`, and special tokens are not known, so that no text can spell one


def digested(text: bytes, read: Callable[[], dict[str, Any]], cache: Path) -> Vocabulary:
    """The vocabulary of a `tokenizer.json` with this `text`, from `cache`, or digested now from what `read` gives."""
    own = xxhash.xxh3_128_hexdigest(Path(__file__).read_bytes())
    path = cache / "vocabularies" / f"{xxhash.xxh3_128_hexdigest(text)}-{own}.npz"
    try:
        return _load(path)
    except (OSError, ValueError, KeyError, EOFError):
        made = vocabulary(read())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(made, path)
    except OSError:
        pass  # it is digested again next time
    return made


def spec_hash(spec: dict[str, Any]) -> str:
    """What a dataset and a model are held together by: equal where all ids are."""
    return hashlib.sha256(orjson.dumps(spec)).hexdigest()[:16]


def vocabulary(spec: dict[str, Any]) -> Vocabulary:
    """Digest a specification (what `tokenizer.json` holds)."""
    added = spec["added_tokens"]
    special = {token["content"]: token["id"] for token in added if token["special"]}
    part = _without_prefix(spec)
    plain = {**part, "added_tokens": [token for token in added if not token["special"]], "post_processor": None}
    token_bytes = _token_bytes(spec)
    return Vocabulary(
        spec_hash(spec),
        special,
        _is_special(spec, special),
        _unknown(spec["model"]),
        token_bytes,
        _lacking(spec) if token_bytes is not None else b"",
        _may_prefix(spec),
        _normalizer(spec.get("normalizer")),
        orjson.dumps(spec),
        orjson.dumps(part),
        orjson.dumps(plain),
    )


def _save(made: Vocabulary, path: Path) -> None:
    """As NumPy's archive, in one step."""
    known = made.token_bytes
    arrays: dict[str, np.ndarray] = {
        name: np.frombuffer(getattr(made, name), np.uint8) for name in ("lacking", "whole", "part", "plain")
    }
    if known is not None:
        _, ends, data = known.buffers()
        arrays |= {"ends": np.frombuffer(ends, np.int32), "data": np.frombuffer(data, np.uint8)}
    facts = {"hash": made.hash, "special": made.special, "may_prefix": made.may_prefix, "normalizer": made.normalizer}
    facts |= {"unknown": made.unknown}
    out = io.BytesIO()
    arrays |= {"facts": np.frombuffer(orjson.dumps(facts), np.uint8), "is_special": made.is_special}
    np.savez(out, **arrays)  # type: ignore[arg-type]
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(out.getbuffer())
    partial.replace(path)


def _load(path: Path) -> Vocabulary:
    with np.load(path, allow_pickle=False) as found:
        facts = orjson.loads(found["facts"].tobytes())
        known = None
        if "ends" in found:
            buffers = [None, pa.py_buffer(found["ends"]), pa.py_buffer(found["data"])]
            known = pa.Array.from_buffers(pa.binary(), len(found["is_special"]), buffers)
        texts = [found[name].tobytes() for name in ("lacking", "whole", "part", "plain")]
        lacking, whole, part, plain = texts
        is_special = found["is_special"]
    kept = (facts["may_prefix"], facts["normalizer"])
    return Vocabulary(
        facts["hash"], facts["special"], is_special, facts["unknown"], known, lacking, *kept, whole, part, plain
    )


def _token_bytes(spec: dict[str, Any]) -> pa.Array | None:
    spelt = _spelling(spec)
    if spelt is None:
        return None
    words = spec["model"]["vocab"]
    added = {token["id"]: token["content"].encode() for token in spec["added_tokens"]}
    table = [b""] * (1 + max([*words.values(), *added]))
    for word, token in words.items():
        table[token] = spelt(word)
    for token, content in added.items():
        table[token] = content
    return binary(table)


def _normalizer(part: dict[str, Any] | None) -> str:
    if not part:
        return ""
    return part["type"] if part["type"] in ("NFC", "NFD", "NFKC", "NFKD") else "other"


def _is_special(spec: dict[str, Any], special: dict[str, int]) -> np.ndarray:
    words = spec["model"]["vocab"]
    ids = words.values() if isinstance(words, dict) else range(len(words))
    found = np.zeros(1 + max([*ids, *(token["id"] for token in spec["added_tokens"])]), bool)
    found[list(special.values())] = True
    if (unknown := _unknown(spec["model"])) >= 0:
        found[unknown] = False
    return found


def _unknown(model: dict[str, Any]) -> int:
    """WordPiece names its unknown token, Unigram counts to it; byte-level BPE has none."""
    if model.get("type") == "Unigram":
        return -1 if model.get("unk_id") is None else model["unk_id"]
    words = model["vocab"]
    return words.get(model.get("unk_token"), -1) if isinstance(words, dict) else -1


def _lacking(spec: dict[str, Any]) -> bytes:
    if "ByteLevel" not in _kinds(spec.get("decoder")):
        return b""
    return bytes(byte for sign, byte in ALPHABET.items() if chr(sign) not in spec["model"]["vocab"])


def _without_prefix(spec: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer without SentencePiece's blank before a text: texts here are parts, not beginnings."""
    spec = dict(spec)
    normalizer, pre = spec.get("normalizer"), spec.get("pre_tokenizer")
    if normalizer and normalizer.get("type") == "Sequence":
        kept = [n for n in normalizer["normalizers"] if n["type"] != "Prepend"]
        spec["normalizer"] = {**normalizer, "normalizers": kept}
    if pre and pre.get("type") == "Metaspace":
        spec["pre_tokenizer"] = {**pre, "prepend_scheme": "never"}
    return spec


def _kinds(part: Any) -> set[str]:
    """Types of a normalizer, pre-tokenizer or decoder and of those in it."""
    if not isinstance(part, dict):
        return set()
    inner = part.get("normalizers") or part.get("pretokenizers") or part.get("decoders") or []
    return {part["type"]}.union(*map(_kinds, inner))


def _may_prefix(spec: dict[str, Any]) -> bool:
    """Whether the tokenizer could put a blank before a text."""
    return bool({"Prepend", "Metaspace"} & (_kinds(spec.get("normalizer")) | _kinds(spec.get("pre_tokenizer"))))


def _spelling(spec: dict[str, Any]) -> Callable[[str], bytes] | None:
    """How the vocabulary spells bytes: as byte-level BPE does, or as SentencePiece's BPE; None where bytes get lost."""
    if spec["model"].get("type", "BPE") != "BPE":
        return None
    kinds = _kinds(spec.get("decoder"))
    if "ByteLevel" in kinds:
        return lambda word: _byte_level(word)
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return lambda word: (
            bytes([int(word[3:5], 16)]) if BYTE.fullmatch(word) else word.replace("\u2581", " ").encode()
        )
    return None


def _byte_level(word: str) -> bytes:
    try:
        return word.translate(ALPHABET).encode("latin-1")
    except UnicodeEncodeError:  # an entry that is no byte-level one
        return word.encode()


def _byte_alphabet() -> dict[int, int]:
    """Byte by the character that stands for it in byte-level vocabularies (GPT-2's `bytes_to_unicode`)."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    return {byte: byte for byte in own} | {256 + n: byte for n, byte in enumerate(others)}


ALPHABET = _byte_alphabet()
