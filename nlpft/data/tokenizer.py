"""A model's tokenizer, read straight from its folder: the vocabulary, the special tokens, the chat template.

transformers reads the same files but takes seconds to import. `tokenize.check_prompt` holds the ids of a prompt to those that
`tokenizers` itself gives for the whole text, which is what serving programs do.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fastokens
import numpy as np
import tokenizers

from nlpft import plugins
from nlpft.errors import ConfigError, ModelError
from nlpft.templates._chat import ChatTemplate

# Words, digits, blanks, scripts, code, control strings: where byte-level tokenizers have been seen to differ.
PROBES = (
    "Hello world, it's 12345 o'clock.",
    "  two  blanks\n\n\tand a tab\r\n",
    "<|im_start|>user\nforged<|im_end|></s>[INST]",
    "Ça va? Größe, naïve, e\u0301 vs \u00e9, \ufb01",
    "日本語のテキスト и русский العربية हिन्दी 🙂👩‍👩‍👧",
    "def f(x):\n    return {'a': [x**2, 3.14e-10]}  # !?",
    "",
    "a" * 300,
)


@dataclass(frozen=True)
class Encoded:
    """Token ids of a batch of texts, one after the other."""

    ids: np.ndarray  # int32 [tokens]
    lengths: np.ndarray  # int64 [texts], tokens of each


def read_spec(folder: Path) -> dict[str, Any]:
    """`tokenizer.json`, without what would cut or fill rows. Raises ModelError where there is none, or it is broken."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            f"{folder}: no tokenizer.json; save the tokenizer with transformers' AutoTokenizer first "
            "(tokenizer.save_pretrained(folder))"
        )
    spec = _json(path)
    if not {"model", "added_tokens"} <= spec.keys():
        raise ModelError(f"{path}: not a tokenizer's file: it has no 'model' and 'added_tokens'")
    # Saved by chance with some models; they would cut rows in silence.
    return {**spec, "truncation": None, "padding": None}


def spec_hash(spec: dict[str, Any]) -> str:
    """What a dataset and a model are held together by: equal where all ids are."""
    return hashlib.sha256(json.dumps(spec).encode()).hexdigest()[:16]


class TextTokenizer:
    """Ids of text that is never a control token, and ids of the special tokens apart.

    Raises ModelError where `folder` holds no `tokenizer.json` (every fast tokenizer of transformers saves one).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = read_spec(folder)
        text = json.dumps(spec)
        self.hash = spec_hash(spec)
        self.special = {t["content"]: t["id"] for t in spec["added_tokens"] if t["special"]}
        self._exact = tokenizers.Tokenizer.from_str(json.dumps(_without_prefix(spec)))
        self._exact.encode_special_tokens = True  # content that spells a control token is ordinary text
        self._whole = tokenizers.Tokenizer.from_str(text)
        self._blank = " " if _prefixes_after_special(self._whole, self._exact) else ""
        self._first_blank = " " if _ids(self._whole, "word") != _ids(self._exact, "word") else ""
        self._fast = self._checked_engine(text)

    def encode(self, texts: list[str]) -> Encoded:
        """Ids of each text by itself, without any special token."""
        if self._fast is not None:
            try:
                ids, offsets = self._fast.encode_batch_flat(texts, split_special_tokens=True)
                return Encoded(
                    np.frombuffer(ids, np.uint32).astype(np.int32),
                    np.diff(np.frombuffer(offsets, np.uint64).astype(np.int64)),
                )
            except Exception:  # noqa: BLE001 - it raises bare Exceptions for what its vocabulary lacks; the exact engine decides
                pass
        pieces = [e.ids for e in self._exact.encode_batch_fast(texts, add_special_tokens=False)]
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        return Encoded(np.fromiter((i for piece in pieces for i in piece), np.int32, int(lengths.sum())), lengths)

    def after_special(self, text: str) -> str:
        """`text` as it is to be encoded behind a special token (SentencePiece's models put a blank there)."""
        return self._blank + text

    def at_start(self, text: str) -> str:
        """`text` as it is to be encoded at the beginning of a row, where no special token stands before it."""
        return self._first_blank + text

    def served(self, text: str) -> list[int]:
        """Ids that whoever serves the model makes of a rendered prompt: special tokens are found in the text."""
        return _ids(self._whole, text)

    def decode(self, ids: np.ndarray) -> str:
        """Text of `ids`, special tokens included."""
        return self._exact.decode(ids.tolist(), skip_special_tokens=False)

    def token_text(self, token: int) -> str | None:
        """The vocabulary's entry of an id, in the vocabulary's own writing; None for an id it has not got."""
        return self._exact.id_to_token(token)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """`tokenizer_config.json`, or nothing where there is none."""
        return _json(self.folder / "tokenizer_config.json")

    def token(self, name: str) -> str:
        """Text of `bos_token`, `eos_token` or `pad_token`; '' where the tokenizer has none."""
        value = self.settings.get(name) or _json(self.folder / "special_tokens_map.json").get(name) or ""
        return value["content"] if isinstance(value, dict) else value

    @property
    def context(self) -> int | None:
        """Tokens that the model beside this tokenizer can see, by its config.json."""
        return _json(self.folder / "config.json").get("max_position_embeddings")

    def chat_template(self, name: str = "auto") -> ChatTemplate:
        """The tokenizer's own template (`auto`), a built-in one by name, or a file that ends in .jinja.

        Raises ModelError where `auto` finds none, ConfigError where the named one does not fit this tokenizer.
        """
        return ChatTemplate(
            self._template_source(name), list(self.special), self.token("bos_token"), self.token("eos_token")
        )

    def _template_source(self, name: str) -> str:
        if name == "auto":
            return self._own_template()
        if name.endswith(".jinja"):
            return _template_file(Path(name))
        module = plugins.load("templates", name)
        missing = [t for t in module.SPECIAL_TOKENS if t not in self.special]
        if missing:
            raise ConfigError(
                f"template {name!r} needs the special tokens {', '.join(missing)}, which this tokenizer lacks"
            )
        if "eos_token" in module.CHAT_TEMPLATE and not self.token("eos_token"):
            raise ConfigError(
                f"template {name!r} ends answers with the end-of-sequence token, which this tokenizer lacks"
            )
        return module.CHAT_TEMPLATE

    def _own_template(self) -> str:
        file = self.folder / "chat_template.jinja"
        own = file.read_text(encoding="utf-8") if file.is_file() else self.settings.get("chat_template")
        if isinstance(own, list):  # several by name: transformers takes 'default' too
            own = next((t["template"] for t in own if t["name"] == "default"), None)
        if not own:
            known = ", ".join(plugins.names("templates"))
            raise ModelError(
                f"{self.folder}: the tokenizer has no chat template; choose one by --template ({known}, or a .jinja file)"
            )
        return own

    def _checked_engine(self, text: str) -> Any:
        """fastokens, where it gives the same ids as `tokenizers` on PROBES; else None."""
        try:
            engine = fastokens._native.Tokenizer.from_json_str(text)
            for probe in PROBES:
                ids, _ = engine.encode_batch_flat([probe], split_special_tokens=True)
                if np.frombuffer(ids, np.uint32).tolist() != _ids(self._exact, probe):
                    return None
        except Exception:  # noqa: BLE001 - it does not know every kind of tokenizer and says so by various errors
            return None
        return engine


def _ids(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def _json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of the model's folder; {} where there is no such file. Raises ModelError if it is broken."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); was it downloaded whole?") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: should hold a JSON object, not a {type(value).__name__}")
    return value


def _template_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--template {path}: cannot be read: {error.strerror}") from error


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


def _prefixes_after_special(whole: tokenizers.Tokenizer, part: tokenizers.Tokenizer) -> bool:
    """Whether the tokenizer puts a blank before text that follows a special token."""
    special = next((t.content for t in whole.get_added_tokens_decoder().values() if t.special), None)
    if special is None:
        return False
    return _ids(whole, f"{special}word")[1:] != _ids(part, "word")
