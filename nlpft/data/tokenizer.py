"""A model's tokenizer, read straight from its folder: the vocabulary, the special tokens, the chat template.

transformers reads the same files but takes seconds to import. `parity.check_served` holds the ids of a prompt to those that
`tokenizers` itself gives for the whole text, which is what serving programs do.
"""

import copy
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from nlpft import plugins
from nlpft.data import engines
from nlpft.data.engines import Encode, Encoded
from nlpft.data.vocabulary import digested
from nlpft.errors import ConfigError, ModelError
from nlpft.files import cache_dir
from nlpft.templates._chat import ChatTemplate

OTHER_TOKENS = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")  # that templates may name


def read_spec(folder: Path) -> dict[str, Any]:
    """`tokenizer.json`, without what would cut or fill rows. Raises ModelError where there is none, or it is broken."""
    _text(folder)
    path = folder / "tokenizer.json"
    spec = _json(path)
    if not {"model", "added_tokens"} <= spec.keys():
        raise ModelError(f"{path}: not a tokenizer's file: it has no 'model' and 'added_tokens'")
    # Saved by chance with some models; they would cut rows in silence.
    return {**spec, "truncation": None, "padding": None}


def _text(folder: Path) -> bytes:
    try:
        return (folder / "tokenizer.json").read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: no tokenizer.json; save the tokenizer with transformers' AutoTokenizer first "
            "(tokenizer.save_pretrained(folder))"
        ) from None
    except OSError as error:
        raise ModelError(f"{folder}/tokenizer.json: cannot be read: {error.strerror}") from error


class TextTokenizer:
    """Ids of text that is never a control token, and ids of the special tokens apart.

    Raises ModelError where `folder` holds no `tokenizer.json` (every fast tokenizer of transformers saves one).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vocabulary = digested(_text(folder), lambda: read_spec(folder), cache_dir())
        self.hash = self.vocabulary.hash
        self.engine = "tokenizers"
        self.unfit: re.Pattern[str] | None = None  # what makes a text unfit for the engine

    @property
    def special(self) -> dict[str, int]:
        """Special tokens and their ids."""
        return self.vocabulary.special

    def encode(self, texts: list[str]) -> Encoded:
        """Ids of each text by itself, without any special token."""
        if self.unfit is not None:
            unfit = [not text.isascii() and self.unfit.search(text) is not None for text in texts]
            if any(unfit):
                return engines.merged(self._rescued, self.encode_exactly, texts, unfit)
        return self._rescued(texts)

    def encode_exactly(self, texts: list[str]) -> Encoded:
        """As `encode`, by the reference engine."""
        return self._exact(texts)

    def choose_engine(self, size: int, texts: Callable[[], Sequence[str]]) -> None:
        """Settle which program encodes; `size`: bytes of text for each process, `texts` gives some."""
        self._use(*engines.choose(self.vocabulary.plain, self.hash, size, cache_dir(), texts))

    def distrust_engine(self) -> None:
        """Encode by the reference from now on: the engine was seen to be inexact, which is remembered."""
        engines.distrust(self.engine, self.hash, cache_dir())
        self._use("tokenizers", "")

    def _use(self, engine: str, unfit: str) -> None:
        self.engine = engine
        self.unfit = re.compile(f"[{re.escape(unfit)}]") if unfit else None
        vars(self).pop("_encode", None)

    def _rescued(self, texts: list[str]) -> Encoded:
        return engines.encode_rescued(self._encode, lambda: self.encode_exactly, texts)

    @cached_property
    def _encode(self) -> Encode:
        return self._exact if self.engine == "tokenizers" else engines.load(self.engine, self.vocabulary.plain)

    @cached_property
    def _exact(self) -> Encode:
        if self.vocabulary.part != self.vocabulary.whole:
            return engines.load("tokenizers", self.vocabulary.plain)
        return engines.by_tokenizers(self._whole)  # one in memory does both, where texts are encoded as they are served

    def by_reference(self) -> "TextTokenizer":
        """The same tokenizer, encoding by the reference engine only."""
        exact = copy.copy(self)
        exact._use("tokenizers", "")
        return exact

    def __getstate__(self) -> dict[str, Any]:
        """Without the engines, which each process loads for itself."""
        return {
            name: value for name, value in vars(self).items() if name not in ("_encode", "_exact", "_part", "_whole")
        }

    @cached_property
    def _part(self) -> Any:
        return _load(self.vocabulary.part)

    @cached_property
    def _whole(self) -> Any:
        return _load(self.vocabulary.whole)

    @cached_property
    def _prefixes(self) -> tuple[str, str]:
        """What SentencePiece's models put before a text: at the start of a row, and behind a special token."""
        if not self.vocabulary.may_prefix:
            return "", ""
        first = _ids(self._whole, "word") != _ids(self._part, "word")
        special = next(iter(self.special), "")
        behind = bool(special) and _ids(self._whole, f"{special}word")[1:] != _ids(self._part, "word")
        return " " * first, " " * behind

    def after_special(self, text: str) -> str:
        """`text` as it is to be encoded behind a special token (SentencePiece's models put a blank there)."""
        return self._prefixes[1] + text

    def at_start(self, text: str) -> str:
        """`text` as it is to be encoded at the beginning of a row, where no special token stands before it."""
        return self._prefixes[0] + text

    def served(self, text: str) -> list[int]:
        """Ids that whoever serves the model makes of a rendered prompt: special tokens are found in the text."""
        self._whole.encode_special_tokens = False
        return _ids(self._whole, text)

    def framed(self, text: str, pair: str | None = None) -> tuple[list[int], list[int | None]]:
        """Ids of a text, or of two, within the special tokens that the tokenizer's own template puts around them.

        Beside the ids: which text each is of, 0 or 1; None for a special token.
        """
        self._whole.encode_special_tokens = True
        found = self._whole.encode(text, pair, add_special_tokens=True)
        return found.ids, found.sequence_ids

    def decode(self, ids: np.ndarray) -> str:
        """Text of `ids`, special tokens included."""
        return self._part.decode(ids.tolist(), skip_special_tokens=False)

    def normalized(self, text: str) -> str:
        """`text` as the vocabulary sees it: most tokenizers change nothing, some compose characters (NFC)."""
        form = self.vocabulary.normalizer
        if form == "other":
            return self._part.normalizer.normalize_str(text)
        return unicodedata.normalize(form, text) if form else text  # type: ignore[arg-type]

    def token_text(self, token: int) -> str | None:
        """The vocabulary's entry of an id, in the vocabulary's own writing; None for an id it has not got."""
        return self._part.id_to_token(token)

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

    @property
    def around(self) -> tuple[str, str]:
        """Special tokens that an encoder reads before and behind each text ([CLS], [SEP]); empty for a decoder's tokenizer."""
        before, behind = self.token("cls_token"), self.token("sep_token")
        return (before, behind) if {before, behind} <= self.special.keys() else ("", "")

    def chat_template(self, name: str = "auto") -> ChatTemplate:
        """The tokenizer's own template (`auto`), a built-in one by name, or a file that ends in .jinja; `none`: an empty one.

        Raises ModelError where `auto` finds none, ConfigError where the named one does not fit this tokenizer.
        """
        others = {name: self.token(name) for name in OTHER_TOKENS if self.token(name)}
        source = self._template_source(name)
        return ChatTemplate(source, list(self.special), self.token("bos_token"), self.token("eos_token"), **others)

    def _template_source(self, name: str) -> str:
        if name == "none":  # raw text has no turns to be written
            return ""
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
                f"{self.folder}: the tokenizer has no chat template; choose one by --template ({known}, or a .jinja file), "
                "or convert raw text by --format text"
            )
        return own


def _load(spec: bytes) -> Any:
    import tokenizers  # takes its time, and most conversions do without it

    return tokenizers.Tokenizer.from_buffer(spec)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def _json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of the model's folder; {} where there is no such file. Raises ModelError if it is broken."""
    if not path.is_file():
        return {}
    try:
        value = orjson.loads(path.read_bytes())
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
