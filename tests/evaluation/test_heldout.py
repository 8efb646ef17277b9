"""The held-out file as a task: the loss is training's, answers are those of generate, nothing is left out silently."""

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError
from nlpft.evaluation import heldout
from nlpft.models.generate import answers

ROWS = [
    *(tiny.chat(f"question {n} " + "word " * (n % 5), f"answer {n}") for n in range(7)),
    tiny.chat("one", "two", "three?", "four five"),
    {"instruction": "Say", "input": "it", "output": "it"},
]


@pytest.fixture(scope="module")
def model(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder).eval()


@pytest.fixture
def data(tmp_path, tiny_folder):
    tokenizer = TextTokenizer(tiny_folder)
    return tokenizer, heldout.load(tiny.write_json(tmp_path / "rows.json", ROWS), tokenizer, tokenizer.chat_template())


def score(model, tokenizer, data, **options):
    options = {"batch_size": 4, "max_new_tokens": 6, "progress": lambda done: None} | options
    return heldout.evaluate(model, tokenizer, data, **options)


def test_loss_of_each_row_is_that_of_the_model_alone(model, data):
    sums, counts = heldout.row_losses(model, data[1].columns)
    for i in range(len(ROWS)):
        ids, labels = (torch.from_numpy(x.copy()).long()[None] for x in data[1].columns.row(i))
        with torch.no_grad():
            expected = model(input_ids=ids, labels=labels).loss.item()
        assert sums[i] / counts[i] == pytest.approx(expected, rel=1e-4)
        assert counts[i] == (labels[0, 1:] >= 0).sum()


def test_prompts_are_those_of_apply_chat_template(data, tiny_folder):
    reference = AutoTokenizer.from_pretrained(tiny_folder)
    for row, prompt in zip(data[1].rows, data[1].prompts, strict=True):
        messages = [{"role": m.role, "content": m.content} for m in row.messages[:-1]]
        assert prompt == reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize("batch_size", [1, 3, 9])
def test_answers_do_not_depend_on_the_batch(model, data, batch_size):
    prompts, stop = data[1].prompts, data[1].stop
    got = dict(answers(model, prompts, stop, [5] * len(prompts), batch_size=batch_size))
    for i, prompt in enumerate(prompts):
        alone = model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=5, eos_token_id=stop, pad_token_id=0
        )
        expected = alone[0, len(prompt) :].tolist()
        assert got[i] == [t for t in expected if t not in stop]


def test_an_answer_ends_at_the_stop_token_and_at_its_own_limit(model, data):
    prompts = data[1].prompts
    free = dict(answers(model, prompts, [399], [6] * len(prompts)))
    stopped = dict(answers(model, prompts, [free[0][2], 399], [6, *[4] * (len(prompts) - 1)]))
    assert stopped[0] == free[0][: free[0].index(free[0][2])]
    assert all(len(ids) <= 4 for i, ids in stopped.items() if i)


def test_exact_match_counts_equal_texts(model, data):
    tokenizer, rows = data
    _, before, *_ = score(model, tokenizer, rows)
    written = [s["filtered_resps"][0] for s in before["heldout"]]
    results, samples, *_ = score(model, tokenizer, rows)
    assert results["results"]["heldout"]["exact_match,none"] == 0
    for row, text in zip(samples["heldout"], written, strict=True):
        assert row["exact_match"] == float(row["target"].strip() == text.strip())
    assert results["n-samples"]["heldout"]["effective"] == len(ROWS)


def test_an_answer_ends_where_the_models_context_does_and_that_is_counted(tmp_path):
    folder = tiny.save_tokenizer(tmp_path / "gpt2")
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_positions=64, n_embd=32, n_layer=2, n_head=2, **ends)).eval()
    with torch.no_grad():
        model.lm_head.weight[2] = 0  # what ends a turn, so that no answer ends by itself
    model.save_pretrained(folder)
    tokenizer = TextTokenizer(folder)
    file = tiny.write_json(tmp_path / "rows.json", [tiny.chat("word", "reply"), tiny.chat("word " * 36, "answer " * 9)])
    data = heldout.load(file, tokenizer, tokenizer.chat_template(), context=64)
    found = score(model, tokenizer, data, max_new_tokens=None)
    assert found.cut == {"heldout": 1}
    free = score(model, tokenizer, data, max_new_tokens=5)
    assert free.cut == {}


def test_the_last_answer_is_asked_for_with_the_turns_before(data):
    row = data[1].rows[7]
    assert row.messages[-1].content == "four five"
    assert "two" in data[0].decode(torch.tensor(data[1].prompts[7]).numpy())
    assert data[1].lengths[7] == len(data[0].encode(["four five"]).ids) + 1


def test_a_row_that_cannot_be_used_is_named(tmp_path, tiny_folder):
    tokenizer = TextTokenizer(tiny_folder)
    file = tiny.write_json(tmp_path / "rows.json", [*ROWS, {"x": 1}])
    with pytest.raises(DataError, match=rf"rows\.json:{len(ROWS) + 1}: unknown format"):
        heldout.load(file, tokenizer, tokenizer.chat_template())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (tiny.chat("q", "a", "and?"), "ends without an answer"),
        ({"instruction": "q", "output": ""}, "an empty one"),
        (tiny.chat("word " * 300, "a"), "the model sees 256"),
    ],
)
def test_no_row_is_left_out_silently(tmp_path, tiny_folder, row, said):
    tokenizer = TextTokenizer(tiny_folder)
    with pytest.raises(DataError, match=said):
        heldout.load(tiny.write_json(tmp_path / "rows.json", [row, *ROWS]), tokenizer, tokenizer.chat_template())
