"""Real corpora, where NLPFT_CORPORA names their folder: rows add up, ids and masks are those of transformers' own rendering."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from nlpft.data import store
from nlpft.data.conversation import conversation
from nlpft.data.convert import Options, convert
from nlpft.data.ledger import dataset_rows
from nlpft.data.read import read
from nlpft.data.tokenizer import TextTokenizer

FOLDER = Path(os.environ.get("NLPFT_CORPORA", "")) / "instruction"
ROWS = {  # file: rows read, rows kept
    "alpaca_en_999.json": (999, 999),
    "sharegpt_200.json": (200, 197),
    "sharegpt_zh_medical_1000.jsonl": (1000, 1000),
    "identity.json": (91, 91),
}

pytestmark = pytest.mark.skipif(
    "NLPFT_CORPORA" not in os.environ, reason="set NLPFT_CORPORA to a folder of real corpora (see CONTRIBUTING)"
)


@pytest.mark.parametrize("name", ROWS)
def test_rows_add_up_and_tokens_are_the_reference(name, tmp_path, smollm2):
    ledger = convert([FOLDER / name], tmp_path / "out", TextTokenizer(smollm2), Options()).summary
    assert (ledger["rows_read"], dataset_rows(ledger)) == ROWS[name]
    assert sum(1 for _ in (tmp_path / "out" / "rejected.jsonl").open()) == ledger["rejected"]
    assert ledger["prompts"]["compared"] == ledger["prompts"]["equal"] + ledger["prompts"]["retokenized"] > 0

    records = {record.source: record for record in read(FOLDER / name)}
    reference = AutoTokenizer.from_pretrained(smollm2)
    table = store.read(tmp_path / "out")
    for row in table.slice(0, 150).to_pylist():
        turns = conversation(records[row["source"]]).messages
        messages = [{"role": m.role, "content": m.content} for m in turns]
        text = reference.apply_chat_template(messages, tokenize=False)
        assert reference.decode(row["input_ids"]) == text
        ids = reference.apply_chat_template(messages, return_dict=False)
        blanks = any(m["content"][:1].isspace() for m in messages if m["role"] == "assistant")
        assert row["input_ids"] == ids or blanks  # an answer is encoded by itself: see data/tokenize.py
        learnt = [t for t in row["labels"] if t >= 0]
        answers = "".join(m.content + "<|im_end|>" for m in turns if m.learnt)
        assert reference.decode(learnt) == answers


def test_every_reject_says_why(tmp_path, smollm2):
    convert([FOLDER / "sharegpt_200.json"], tmp_path / "out", TextTokenizer(smollm2), Options(max_length=512))
    for line in (tmp_path / "out" / "rejected.jsonl").open():
        told = json.loads(line)
        assert told["reason"]
        assert told["source"].rpartition(":")[2].isdigit()
        assert told["row"]
    assert np.max(store.read(tmp_path / "out")["length"].to_numpy()) <= 512
