"""Real corpora, where NLPFT_CORPORA names their folder: each row is read or says why not, and no answer is lost on the way."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from nlpft import plugins
from nlpft.data.conversation import conversation
from nlpft.errors import RowRejected
from nlpft.formats._fields import NO_PLACE, Columns, Roles
from nlpft.types import Conversation, Record

pytestmark = pytest.mark.skipif(
    "NLPFT_CORPORA" not in os.environ, reason="set NLPFT_CORPORA to a folder of real corpora (see CONTRIBUTING)"
)
FOLDER = Path(os.environ.get("NLPFT_CORPORA", "")) / "instruction"
READ = "read"
FILES = {  # file: what becomes of its rows
    "alpaca_0-3252.json": {READ: 3248, "empty answer": 4},
    "alpaca_3252-6382.json": {READ: 3130},
    "alpaca_51009-52002.json": {READ: 992, "empty answer": 1},
    "alpaca_en_999.json": {READ: 999},
    "identity.json": {READ: 91},
    "conversation.json": {READ: 1},
    "dolly_style.json": {READ: 12},
    "litgpt_alpaca/alpaca.json": {READ: 2},
    "messages_blocks.jsonl": {READ: 500},
    "sharegpt_200.json": {READ: 197, "no answer": 3},
    "sharegpt_dpo_300.json": {READ: 300},
    "sharegpt_toolcall_300.json": {READ: 300},
    "sharegpt_zh_medical_1000.jsonl": {READ: 1000},
    "mt_bench_questions.jsonl": {"unknown format": 80},
    "self_instruct_seed_tasks.jsonl": {"unknown format": 175},
}


def rows(name: str) -> list[Record]:
    text = (FOLDER / name).read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines()] if name.endswith(".jsonl") else json.loads(text)
    found = found if isinstance(found, list) else [found]
    return [Record(row, f"{name}:{number}") for number, row in enumerate(found, 1)]


def said(record: Record) -> Conversation | RowRejected:
    try:
        return conversation(record)
    except RowRejected as why:
        return why


@pytest.mark.parametrize("name", FILES)
def test_every_row_is_read_or_says_why_not(name):
    assert Counter(getattr(said(record), "reason", READ) for record in rows(name)) == FILES[name]


def test_no_answer_to_a_user_is_lost():
    answers = 0
    for record in rows("sharegpt_200.json"):
        found, asked = said(record), False
        learnt = "\0".join(m.content for m in found.messages if m.learnt) if isinstance(found, Conversation) else ""
        for turn in record.data["conversations"]:
            asked |= turn["from"] == "human"
            if asked and turn["from"] == "gpt" and turn["value"].strip():
                answers += 1
                assert turn["value"] in learnt
    assert answers > 600


@pytest.mark.parametrize("name", plugins.names("formats"))
def test_what_is_written_is_read_again_or_has_no_place(name):
    module, held = plugins.load("formats", name), Counter()
    for file in FILES:
        for found in map(said, rows(file)[:200]):
            if not isinstance(found, Conversation):
                continue
            try:
                row = json.loads(json.dumps(module.write(found)))
            except RowRejected as why:
                held[why.reason] += 1
                continue
            back = module.parse(row, Columns(), Roles())
            held[READ] += 1
            assert (back.messages, back.tools, back.id) == (found.messages, found.tools, found.id)
    assert set(held) <= {READ, NO_PLACE}
    assert (READ in held) == (name != "text")
    assert (NO_PLACE in held) == (name not in ("sharegpt", "messages"))
