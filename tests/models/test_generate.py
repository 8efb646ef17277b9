"""Answers written together are those of `generate`, each ends where it should, and who has ended costs nothing more."""

import pytest
import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from nlpft.models import generate, planned_attention

PROMPTS = [[3 + n] * n + [50, 51 + n] for n in (1, 5, 9, 2, 7)] + [[60, *range(5, 35), n] for n in (7, 8, 9)]


@pytest.fixture(scope="module")
def model():
    made = tiny.make_model().eval()
    for name, weight in made.named_parameters():
        if "self_attn" in name:  # else a tiny model repeats its last token, whatever stands before it
            weight.data *= 12
    return made


def alone(model, prompt, count):
    ids = model.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=count, eos_token_id=None, pad_token_id=0
    )
    return ids[0, len(prompt) :].tolist()


def test_what_the_model_writes_depends_on_all_that_stands_before(model):
    assert alone(model, [9, 3, 5, 8, 40], 6) != alone(model, [3, 9, 5, 8, 40], 6) != [40] * 6
    assert len({token for prompt in PROMPTS for token in alone(model, prompt, 9)}) > 20


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_answers_are_those_of_generate_whatever_stands_beside_them(model, batch_size):
    limits = [4 + n for n in range(len(PROMPTS))]
    found = dict(generate.answers(model, PROMPTS, [], limits, batch_size=batch_size))
    assert found == {i: alone(model, prompt, limits[i]) for i, prompt in enumerate(PROMPTS)}


def test_prompts_longer_than_one_reading_are_read_in_parts(model, monkeypatch):
    monkeypatch.setitem(generate.READ, "cpu", 8)
    assert len(list(generate._parts([generate.Row(0, p, 1, []) for p in PROMPTS], torch.device("cpu")))) > 2
    found = dict(generate.answers(model, PROMPTS, [], [5] * len(PROMPTS)))
    assert found == {i: alone(model, prompt, 5) for i, prompt in enumerate(PROMPTS)}


def test_little_memory_makes_smaller_batches_not_other_answers(model, monkeypatch):
    wide = []
    monkeypatch.setattr(generate, "ROOM", 45 * generate.bytes_per_token(model) * 2)
    real = generate.KeptKeys
    monkeypatch.setattr(generate, "KeptKeys", lambda rows, longest: wide.append(rows) or real(rows, longest))
    found = dict(generate.answers(model, PROMPTS, [], [5] * len(PROMPTS)))
    assert wide == [2]
    assert found == {i: alone(model, prompt, 5) for i, prompt in enumerate(PROMPTS)}


def test_others_take_the_places_of_those_that_have_ended(model, monkeypatch):
    rows = []
    real = generate._next
    monkeypatch.setattr(
        generate, "_next", lambda model, tokens, *more: rows.append(len(tokens)) or real(model, tokens, *more)
    )
    limits = [2, 9, 3, 7, 2, 9, 8, 5]
    found = dict(generate.answers(model, PROMPTS, [], limits, batch_size=4))
    assert found == {i: alone(model, prompt, limits[i]) for i, prompt in enumerate(PROMPTS)}
    assert max(rows) == 4
    assert sum(rows) == sum(n - 1 for n in limits)
    assert len(rows) < 16


def test_an_answer_ends_before_a_stop_token_and_a_look_at_it_ends_it_soon(model):
    free = dict(generate.answers(model, PROMPTS, [], [12] * len(PROMPTS)))
    stop = free[0][3]
    stopped = dict(generate.answers(model, PROMPTS, [stop], [12] * len(PROMPTS)))
    for i, ids in free.items():
        assert stopped[i] == (ids[: ids.index(stop)] if stop in ids else ids)
    looked = dict(generate.answers(model, PROMPTS, [], [12] * len(PROMPTS), finished=lambda i, ids: i == 2))
    assert looked == free | {2: free[2][: generate.CHECK]}


def test_rows_that_have_ended_are_computed_no_more(model, monkeypatch):
    rows = []
    real = generate._next
    monkeypatch.setattr(
        generate, "_next", lambda model, tokens, *more: rows.append(len(tokens)) or real(model, tokens, *more)
    )
    list(generate.answers(model, PROMPTS[:4], [], [1, 3, 5, 5]))
    assert rows == [3, 3, 2, 2]


def test_an_architecture_that_takes_no_plan_is_served_by_generate(monkeypatch):
    torch.manual_seed(0)
    other = GPT2LMHeadModel(GPT2Config(vocab_size=120, n_embd=16, n_layer=2, n_head=2, n_positions=64)).eval()
    monkeypatch.setattr(other.__class__, "_supports_attention_backend", False, raising=False)
    assert not planned_attention.serves(other)
    found = dict(generate.answers(other, PROMPTS, [119], [5] * len(PROMPTS)))
    assert found == {i: alone(other, prompt, 5) for i, prompt in enumerate(PROMPTS)}


def test_a_model_with_windows_is_not_served():
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=120, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=4,
    )  # fmt: skip
    assert not planned_attention.serves(MistralForCausalLM(config).eval())


def test_no_batch_of_generate_outgrows_the_models_context(monkeypatch):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=2)).eval()
    monkeypatch.setattr(planned_attention, "serves", lambda model: False)
    prompts = [[5] * 58, [6] * 10, [7] * 9]
    limits = [64 - len(prompt) for prompt in prompts]
    found = dict(generate.answers(model, prompts, [], limits))
    assert found == {i: alone(model, prompt, limits[i]) for i, prompt in enumerate(prompts)}
