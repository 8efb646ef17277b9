"""lm-evaluation-harness's `LM`, fast: HFLM's texts, tokens and truncation; shared beginnings, no padding, no needless logits."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lm_eval import utils
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm

from nlpft.evaluation import scoring
from nlpft.evaluation.scoring import Scored
from nlpft.evaluation.spread import Kept, answered
from nlpft.models import planned_attention
from nlpft.models.generate import answers

TOKENS = {"cpu": 768, "cuda": 16384}  # read in one pass; more gain nothing on a CPU, and leave its cache
ROWS = {"cpu": 64, "cuda": 256}  # answers written at once
# Answers in one batch, which one process writes: on a CPU its end, when few rows are left, has to weigh little.
BATCH = {"cpu": 256, "cuda": 256}
GREEDY = {"do_sample", "temperature", "until", "max_gen_toks"}  # settings that are ours; with others, HFLM answers


@dataclass(frozen=True)
class Written:
    """A prompt to which an answer is to be written."""

    prompt: list[int]
    until: list[str]
    limit: int  # tokens


class PackedLM(HFLM):
    """`model` as lm-eval asks it. Of several processes each answers a share, and all return everything.

    Architectures that planned attention does not serve are answered by HFLM itself, in batches of `batch_size`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        kept: Kept | None = None,
        *,
        batch_size: int = 16,
        tokens: int | None = None,
        write: Any = None,
    ) -> None:
        # It warns of being handed a model, which is the point.
        logging.getLogger(HFLM.__module__).setLevel(logging.ERROR)
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        self.kept = kept or Kept(None, "")
        self.tokens = tokens or TOKENS[self.device.type]
        self.write = write or _answers
        self.planned = planned_attention.serves(model)
        self._encoded: dict[str, list[int]] = {}

    def get_model_info(self) -> dict[str, Any]:
        """Nothing: lm-eval would ask the hub about the model, for each task, and nlpft keeps nothing of it."""
        return {}

    @cached_property
    def max_length(self) -> int:
        """Tokens that the model sees; lm-eval looks for it in the configuration anew for each request."""
        return int(super().max_length)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        if add_special_tokens is None and not kwargs and string in self._encoded:
            return self._encoded[string]
        return super().tok_encode(string, add_special_tokens, **kwargs)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        pairs = [request.args for request in requests]
        with self._encoding([text for pair in pairs for text in _texts(*pair)]):
            return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        texts = [request.args[0] for request in requests]
        with self._encoding(texts):
            windows = [list(self._windows(text)) for text in texts]
        flat = [(("", ""), *window) for row in windows for window in row]
        found = iter(self._loglikelihood_tokens(flat, disable_tqdm=disable_tqdm))
        return [sum(next(found)[0] for _ in row) for row in windows]

    def _windows(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        rolling = utils.get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self.max_length,
            context_len=1,
        )
        return map(utils.make_disjoint_window, rolling)

    def _loglikelihood_tokens(
        self, requests: Sequence[Any], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        asked = [self._asked(context, continuation) for _, context, continuation in requests]
        batches = scoring.batches(asked, self.tokens)
        contents = [[asked[i] for i in batch] for batch in batches]
        with _bar("log-likelihoods", len(asked), disable_tqdm) as progress, self._attention():
            found = answered(contents, "score", self._scores, self.kept, progress)
        result: list[tuple[float, bool]] = [(0.0, False)] * len(asked)
        for batch, part in zip(batches, found, strict=True):
            for i, (value, greedy) in zip(batch, part, strict=True):
                result[i] = value, greedy
        return result

    def _asked(self, context: list[int], continuation: list[int]) -> Scored:
        """As HFLM reads it: what is too long loses its beginning."""
        assert 0 < len(continuation) <= self.max_length
        assert context
        return Scored((context + continuation)[-(self.max_length + 1) :][:-1], continuation)

    def _scores(self, batch: Sequence[Scored]) -> Callable[[], list[Any]]:
        if self.planned:
            end = scoring.begin(self.model, batch)
            return lambda: [list(score) for score in end()]
        pairs = [((r.inputs + r.targets[-1:])[: -len(r.targets)], r.targets) for r in batch]
        found = super()._loglikelihood_tokens([(("", ""), *pair) for pair in pairs], disable_tqdm=True)
        return lambda: [list(x) for x in found]

    def _attention(self) -> contextlib.AbstractContextManager[None]:
        return planned_attention.using(self.model) if self.planned else contextlib.nullcontext()

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        settings = [normalize_gen_kwargs(request.args[1], self.max_gen_toks) for request in requests]
        ours = [i for i, s in enumerate(settings) if set(s) <= GREEDY and not s["do_sample"]]
        others = sorted(set(range(len(requests))) - set(ours))
        result = dict(zip(others, super().generate_until([requests[i] for i in others]), strict=True)) if others else {}
        with self._encoding([requests[i].args[0] for i in ours]):
            asked = {i: self._prompt(requests[i].args[0], settings[i]) for i in ours}
        order = sorted(ours, key=lambda i: (-len(asked[i].prompt), asked[i].prompt))
        rows = BATCH[self.device.type]
        batches = [order[i : i + rows] for i in range(0, len(order), rows)]
        questions = [[(a.prompt, a.until, a.limit) for a in (asked[i] for i in batch)] for batch in batches]
        with _bar("answers", len(order), disable_tqdm) as progress:
            found = answered(questions, "write", self._write, self.kept, progress)
        for batch, part in zip(batches, found, strict=True):
            result |= zip(batch, part, strict=True)
        return [result[i] for i in range(len(requests))]

    def _prompt(self, text: str, settings: Any) -> Written:
        """As HFLM reads it: a prompt that leaves no room for the answer loses its beginning."""
        eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        limit = settings["max_gen_toks"]
        assert limit < self.max_length, f"{limit} tokens are asked for, the model sees {self.max_length}"
        until = handle_stop_sequences(settings["until"], eos=eos)
        return Written(self.tok_encode(text)[-(self.max_length - limit) :], until, limit)

    def _write(self, batch: Sequence[tuple[list[int], list[str], int]]) -> Callable[[], list[str]]:
        rows = [Written(*row) for row in batch]
        ids = self.write(self, rows)
        return lambda: [
            postprocess_generated_text(self.tok_decode(found), row.until, None)
            for row, found in zip(rows, ids, strict=True)
        ]

    @contextlib.contextmanager
    def _encoding(self, texts: Sequence[str]) -> Iterator[None]:
        """Within it `tok_encode` knows `texts`: encoding them together takes a fraction of the time."""
        begin = self.tokenizer.decode(self.prefix_token_id)
        encode = _on_all_cores(self.tokenizer)
        for begun in (True, False):
            group = [text for text in dict.fromkeys(texts) if text and has_bos_prefix(text, begin) == begun]
            special = False if begun else self.add_bos_token
            options = {} if special is None else {"add_special_tokens": special}
            if group:
                self._encoded |= zip(group, encode(group, **options)["input_ids"], strict=True)
        try:
            yield
        finally:
            self._encoded = {}


def _on_all_cores(tokenizer: Any) -> Callable[..., Any]:
    """`tokenizer` with the threads of `tokenizers`, switched off elsewhere for the sake of forks; here nothing forks."""

    def encode(texts: list[str], **options: Any) -> Any:
        before = os.environ.get("TOKENIZERS_PARALLELISM")
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        try:
            return tokenizer(texts, **options)
        finally:
            if before is None:
                del os.environ["TOKENIZERS_PARALLELISM"]
            else:
                os.environ["TOKENIZERS_PARALLELISM"] = before

    return encode


def _texts(context: str, continuation: str) -> tuple[str, ...]:
    """What `_encode_pair` encodes of a pair."""
    return (context.rstrip(), context + continuation) if context else ()


def stop_tokens(language_model: PackedLM, until: Sequence[str]) -> set[int]:
    """Ids that end an answer: the model's own, and strings of `until` that are one special token."""
    own = getattr(getattr(language_model.model, "generation_config", None), "eos_token_id", None)
    ids = {language_model.eot_token_id} | set(own if isinstance(own, list) else [own])
    special = {language_model.tokenizer.decode([i]): i for i in language_model.tokenizer.all_special_ids}
    return {i for i in ids | {special.get(text) for text in until} if i is not None}


def _answers(language_model: PackedLM, rows: Sequence[Written]) -> list[list[int]]:
    """Token ids of the answers, which go on a little behind the first of their stop strings."""
    decode = language_model.tokenizer.decode
    until = {i: [text for text in row.until if text] for i, row in enumerate(rows)}
    # Tokens that may hold a stop string and what came since the last look: no token is less than a byte.
    width = max((len(text.encode()) for row in rows for text in row.until), default=0) + 8
    stop = set.intersection(*(stop_tokens(language_model, row.until) for row in rows))

    def finished(number: int, ids: list[int]) -> bool:
        text = decode(ids[-width:])
        return any(end in text for end in until[number])

    found = answers(
        language_model.model,
        [row.prompt for row in rows],
        sorted(stop),
        [row.limit for row in rows],
        batch_size=ROWS[language_model.device.type],
        finished=finished,
    )
    return [ids for _, ids in sorted(found)]


@contextlib.contextmanager
def _bar(what: str, total: int, hidden: bool) -> Iterator[Callable[[int], Any]]:
    with tqdm(total=total, desc=what, disable=hidden or not sys.stderr.isatty()) as bar:
        yield bar.update
