"""The bundled samples are what their generator writes, and fit for a before-and-after test."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "recipes" / "samples"
LINE = re.compile(r"(borrow|return|reserve)\|[A-Z][a-z]+\|[2-9]\|[a-z]+\|(Mon|Tue|Wed|Thu|Fri|Sat|Sun)")


def sharegpt(name: str) -> list[dict]:
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


def alpaca() -> list[dict]:
    return [json.loads(line) for line in (SAMPLES / "train_alpaca.jsonl").read_text(encoding="utf-8").splitlines()]


def turns(row: dict, role: str) -> list[str]:
    return [turn["value"] for turn in row["conversations"] if turn["from"] == role]


def note(prompt: str) -> str:
    """The sentence in a prompt, without the instruction before it."""
    return re.split(r"\n\n|: ", prompt)[-1]


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("make_samples", ROOT / "scripts" / "make_samples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["train_sharegpt.json", "train_alpaca.jsonl", "heldout.json"])
def test_the_generator_writes_the_checked_in_files_again(generator, tmp_path, name):
    generator.make(tmp_path)
    assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes()


def test_there_are_enough_rows_of_every_kind():
    chats, orders = sharegpt("train_sharegpt.json"), alpaca()
    assert len(chats) + len(orders) >= 300
    assert {len(turns(row, "gpt")) for row in chats} == {1, 2, 3}
    assert {bool(turns(row, "system")) for row in chats} == {True, False}
    assert {"input" in row for row in orders} == {True, False} == {"system" in row for row in orders}
    assert len(sharegpt("heldout.json")) >= 100
    assert all(len(turns(row, "gpt")) == 1 for row in sharegpt("heldout.json"))


def test_every_answer_is_a_line_of_the_log():
    answers = [
        turn for name in ("train_sharegpt.json", "heldout.json") for row in sharegpt(name) for turn in turns(row, "gpt")
    ]
    answers += [row["output"] for row in alpaca()]
    assert [answer for answer in answers if not LINE.fullmatch(answer)] == []


def test_no_heldout_note_or_line_occurs_in_training():
    notes = {note(turn) for row in sharegpt("train_sharegpt.json") for turn in turns(row, "human")}
    notes |= {note(row.get("input") or row["instruction"]) for row in alpaca()}
    lines = {turn for row in sharegpt("train_sharegpt.json") for turn in turns(row, "gpt")}
    lines |= {row["output"] for row in alpaca()}
    heldout = sharegpt("heldout.json")
    assert not notes & {note(turns(row, "human")[0]) for row in heldout}
    assert not lines & {turns(row, "gpt")[0] for row in heldout}
    assert len({row["id"] for row in heldout}) == len({turns(row, "gpt")[0] for row in heldout}) == len(heldout)


def test_a_part_of_the_heldout_notes_has_words_that_training_lacks():
    seen = {field for row in alpaca() for field in row["output"].split("|")}
    seen |= {f for row in sharegpt("train_sharegpt.json") for turn in turns(row, "gpt") for f in turn.split("|")}
    new = [not set(turns(row, "gpt")[0].split("|")) <= seen for row in sharegpt("heldout.json")]
    assert 0.2 < sum(new) / len(new) < 0.5
