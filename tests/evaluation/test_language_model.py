"""What lm-eval is told is what HFLM would tell it, whatever shares a prefix, is packed, cut, or ends early."""

import pytest
import tiny
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from nlpft.evaluation.language_model import PackedLM
from nlpft.evaluation.spread import Kept

CONTEXTS = [
    "",
    "word",
    "question 1: how are you there, word reply? ",
    "question 1: how are you there, word answer?",
    "question 2: how are you there, word answer?" + " reply" * 30,
    "word reply " * 120,  # longer than the model sees
    "<|im_start|>word",  # a beginning token in the text, to which no second one is added
]
CHOICES = [" 7", " 8", " reply answer", " reply word 5", "answer there"]
PAIRS = [(context, choice) for context in CONTEXTS for choice in CHOICES]
# No two windows of it are alike: HFLM scores the shorter of two that end alike by the longer one's first logits.
LONG = " ".join(str(n * n) for n in range(200))
TEXTS = ["word reply answer", "<|im_start|>word", "Hello there, " * 3, LONG]


@pytest.fixture(scope="module", params=["plain", "with a beginning token"])
def both(request, tiny_folder):
    """(PackedLM, HFLM) on one model."""
    model = AutoModelForCausalLM.from_pretrained(tiny_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    packed = PackedLM(model, tokenizer, tokens=200)
    hf = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    if request.param != "plain":
        from tokenizers.processors import TemplateProcessing

        tokenizer.bos_token = "<|im_start|>"
        tokenizer._tokenizer.post_processor = TemplateProcessing("<|im_start|> $A", None, [("<|im_start|>", 1)])
        assert tokenizer.encode("word")[0] == 1
    return packed, hf


def asked(kind, *arguments):
    return [Instance(kind, {}, args, 0) for args in arguments]


def test_log_likelihoods_are_hflms(both):
    packed, hf = (lm.loglikelihood(asked("loglikelihood", *PAIRS), disable_tqdm=True) for lm in both)
    assert both[0].planned
    assert [greedy for _, greedy in packed] == [greedy for _, greedy in hf]
    assert [value for value, _ in packed] == pytest.approx([value for value, _ in hf], abs=1e-3)
    assert len({round(value, 3) for value, _ in packed}) > 20


def test_a_greedy_continuation_is_recognised(both):
    packed, hf = both
    (written,) = hf.generate_until(
        asked("generate_until", ("word", {"until": [], "max_gen_toks": 4})), disable_tqdm=True
    )
    pairs = asked("loglikelihood", ("word", written), ("word", written + "?"), ("word", "?" + written))
    assert [g for _, g in packed.loglikelihood(pairs)] == [g for _, g in hf.loglikelihood(pairs, disable_tqdm=True)]


def test_rolling_log_likelihoods_are_hflms(both):
    packed, hf = (lm.loglikelihood_rolling(asked("rolling", *((t,) for t in TEXTS)), disable_tqdm=True) for lm in both)
    assert packed == pytest.approx(hf, rel=1e-5)


@pytest.mark.parametrize("until", [[], ["<|im_end|>"], ["\n", "re"], [" ", "word"]])
def test_answers_are_hflms(both, until):
    contexts = [c for c in CONTEXTS[:-1] if c] + [f"word {n}" for n in range(5)]
    requests = asked("generate_until", *((c, {"until": list(until), "max_gen_toks": 21}) for c in contexts))
    packed, hf = (lm.generate_until(requests, disable_tqdm=True) for lm in both)
    assert packed == hf
    assert len(set(packed)) > 2


def test_sampling_is_left_to_hflm(both, monkeypatch):
    monkeypatch.setattr(HFLM, "generate_until", lambda self, requests: [f"sampled {len(requests)}"] * len(requests))
    settings = [{"max_gen_toks": 2}, {"do_sample": True, "temperature": 0.7}, {"top_k": 3}, {"max_gen_toks": 2}]
    found = both[0].generate_until(asked("generate_until", *(("word", s) for s in settings)), disable_tqdm=True)
    assert found[1:3] == ["sampled 2"] * 2
    assert found[0] == found[3] != "sampled 2"


def test_an_architecture_that_no_plan_serves_gets_the_same_answers(both, monkeypatch):
    packed, hf = both
    monkeypatch.setattr(packed, "planned", False)
    monkeypatch.setattr("nlpft.models.planned_attention.serves", lambda model: False)
    pairs, prompts = asked("loglikelihood", *PAIRS), asked("generate_until", ("word", {"max_gen_toks": 5}))
    got, expected = (lm.loglikelihood(pairs, disable_tqdm=True) for lm in both)
    assert [v for v, _ in got] == pytest.approx([v for v, _ in expected], abs=1e-3)
    assert packed.generate_until(prompts, disable_tqdm=True) == hf.generate_until(prompts, disable_tqdm=True)


def test_the_model_attends_as_before_afterwards(both):
    before = both[0].model.config._attn_implementation
    both[0].loglikelihood(asked("loglikelihood", *PAIRS[:6]))
    assert both[0].model.config._attn_implementation == before != "planned"


def test_kept_answers_are_not_computed_again(tmp_path, tiny_folder, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    first = PackedLM(model, tokenizer, Kept(tmp_path, "one"), tokens=40)
    requests = asked("loglikelihood", *PAIRS)
    expected = first.loglikelihood(requests)
    file = tmp_path / "answers-0.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) > 3
    file.write_text("".join(lines[:-2]) + lines[-2][:20])  # killed while it wrote
    again = PackedLM(model, tokenizer, Kept(tmp_path, "one"), tokens=40)
    computed = []
    monkeypatch.setattr(again, "_scores", lambda batch: computed.append(batch) or first._scores(batch))
    assert again.loglikelihood(requests) == expected
    assert len(computed) == 2
    assert file.read_text().count("\n") == len(lines)
    other = PackedLM(tiny.make_model(seed=1).eval(), tokenizer, Kept(tmp_path, "another"), tokens=40)
    assert other.loglikelihood(requests) != expected


def test_kept_answers_that_are_no_numbers_are_asked_again(tmp_path):
    kept = Kept(tmp_path, "one")
    kept.add("good", [[-1.5, True]])
    kept.add("bad", [[float("nan"), True]])
    assert Kept(tmp_path, "one").answers == {"good": [[-1.5, True]]}


def test_prompts_of_chat_templates_are_hflms(both):
    turns = [{"role": "user", "content": "word"}]
    packed, hf = (lm.apply_chat_template(turns) for lm in both)
    assert packed == hf
    assert packed.endswith("assistant\n")


def test_gradients_are_not_kept(both):
    both[0].loglikelihood(asked("loglikelihood", *PAIRS[:6]))
    assert torch.is_grad_enabled()
