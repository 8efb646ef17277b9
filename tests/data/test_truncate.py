"""Too long rows lose whole turns, or the end of one text; what is left is the longest that fits."""

import random

import pytest

from nlpft.data.truncate import Shortened, Truncation, shorten
from nlpft.errors import RowRejected
from nlpft.types import Conversation, Message

HEADER = 3  # tokens that a turn costs beside its text, of which each character is a token


def conversation(*texts: str, system: str = "") -> Conversation:
    roles = ["user", "assistant"]
    turns = [Message(roles[i % 2], text) for i, text in enumerate(texts)]
    return Conversation((*([Message("system", system)] if system else []), *turns))


def tokens(row: Conversation) -> int:
    return sum(len(m.content) + HEADER for m in row.messages) + len(row.text)


def fit(row: Conversation, limit: int, **how) -> Shortened | RowRejected:
    (found,) = shorten([row], [tokens(row)], limit, Truncation(**how), lambda rows: list(map(tokens, rows)))
    return found


def texts(found) -> list[str]:
    return [m.content for m in found.conversation.messages]


LONG = conversation("q1", "a1", "q2", "a2", "q3", "a3", system="s")  # 1 + 3, then 5 a turn


def test_the_newest_turns_go_first():
    assert texts(fit(LONG, 4 + 4 * 5)) == ["s", "q1", "a1", "q2", "a2"]
    assert texts(fit(LONG, 4 + 4 * 5 - 1)) == ["s", "q1", "a1"]
    assert fit(LONG, 4 + 4 * 5).tokens == 24


def test_or_the_oldest_while_the_system_turn_stays():
    assert texts(fit(LONG, 4 + 4 * 5, too_long="oldest")) == ["s", "q2", "a2", "q3", "a3"]
    assert texts(fit(LONG, 4 + 2 * 5, too_long="oldest")) == ["s", "q3", "a3"]


def test_a_turn_without_an_answer_is_not_left_at_the_end():
    row = conversation("q1", "a1", "q2", "a" * 90)
    assert texts(fit(row, 40)) == ["q1", "a1"]


def test_only_learnt_answers_end_a_row():
    row = LONG._replace(messages=tuple(m._replace(train=i == 2) for i, m in enumerate(LONG.messages)))
    assert texts(fit(row, 30)) == ["s", "q1", "a1"]


def test_a_long_prompt_is_cut_and_its_answer_stays_whole():
    row = conversation("q" * 100, "answer")
    found = fit(row, 60)
    assert texts(found) == ["q" * (60 - 2 * HEADER - 6), "answer"]
    assert found.tokens == 60


def test_a_long_answer_is_cut_only_where_that_is_asked_for():
    row = conversation("question", "a" * 100)
    assert fit(row, 60).reason == "too long"
    assert texts(fit(row, 60, long_turn="any")) == ["question", "a" * (60 - 2 * HEADER - 8)]
    assert fit(row, 60, long_turn="reject").reason == "too long"


def test_rows_may_be_rejected_as_they_are():
    assert fit(LONG, 30, too_long="reject").reason == "too long"


@pytest.mark.parametrize("lose", ["newest", "oldest"])
def test_the_longest_version_that_fits_is_found(lose):
    draw = random.Random(0)
    for _ in range(300):
        row = conversation(*("x" * draw.randint(1, 60) for _ in range(2 * draw.randint(1, 30))), system="s" * 5)
        limit = draw.randint(10, max(11, tokens(row)))
        found = fit(row, limit, too_long=lose, long_turn="reject")
        pairs = range(2, len(row.messages), 2)
        if lose == "newest":
            every = [row.messages[: i + 1] for i in pairs]
        else:
            every = [row.messages[:1] + row.messages[i - 1 :] for i in pairs]
        sizes = [size for size in (tokens(Conversation(v)) for v in every) if size <= limit]
        assert (found.tokens if sizes else found.reason) == max(sizes, default="too long")


def test_many_rows_are_measured_together():
    calls = []

    def measure(rows):
        calls.append(len(rows))
        return list(map(tokens, rows))

    rows = [conversation(*(f"{i} text {j}" for j in range(40))) for i in range(50)]
    shorten(rows, list(map(tokens, rows)), 100, Truncation(), measure)
    assert len(calls) <= 5
    assert calls[0] == 50


def test_a_version_that_the_template_refuses_is_not_taken():
    def measure(rows):
        return [RowRejected("refused by the chat template") if len(r.messages) > 2 else tokens(r) for r in rows]

    row = conversation("q1", "a1", "q2", "a2", "q3", "a" * 50)
    (found,) = shorten([row], [tokens(row)], 40, Truncation(), measure)
    assert texts(found) == ["q1", "a1"]
