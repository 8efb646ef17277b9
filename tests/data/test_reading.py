"""Reading a slice: every row comes, in order, with its conversation or the reason why it has none."""

import json

from tiny import chat

from nlpft.data.conversation import Reading
from nlpft.data.reading import read_conversations
from nlpft.data.rows import Bad
from nlpft.data.slices import CutOff, cut
from nlpft.data.sources import source
from nlpft.errors import RowRejected


def read(path, text, format="auto"):
    path.write_text(text)
    (piece,) = cut(source(path), CutOff())
    return list(read_conversations(piece, Reading(format=format)))


def test_every_row_comes_with_its_conversation_or_the_reason_why_not(tmp_path):
    lines = [json.dumps(chat("q", "a")), "{broken", json.dumps({"x": 1}), json.dumps(chat("r", "b"))]
    numbers, records, found = zip(*read(tmp_path / "rows.jsonl", "\n".join(lines)), strict=True)
    assert numbers == (0, 1, 2, 3)
    assert [record.source.rpartition(":")[2] for record in records] == ["1", "2", "3", "4"]
    assert [isinstance(record, Bad) for record in records] == [False, True, False, False]
    assert [one.reason for one in found if isinstance(one, RowRejected)] == ["row is not JSON", "unknown format"]
    assert [found[0].messages[1].content, found[3].messages[1].content] == ["a", "b"]


def test_half_a_surrogate_pair_is_found_whichever_row_it_stands_in(tmp_path):
    lines = [json.dumps(chat("q", "a")), json.dumps(chat("q", "\ud800"))]
    (_, _, good), (_, _, bad) = read(tmp_path / "rows.jsonl", "\n".join(lines))
    assert good.messages[1].content == "a"
    assert bad.reason == "not valid Unicode"


def test_the_reading_decides_the_format(tmp_path):
    ((_, _, found),) = read(tmp_path / "rows.jsonl", json.dumps(chat("q", "a")), format="alpaca")
    assert isinstance(found, RowRejected)
