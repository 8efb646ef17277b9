"""Batches keep together what shares a beginning, hold everything once, and stay near their budget."""

import pytest

from nlpft.evaluation import scoring
from nlpft.evaluation.scoring import Scored

SHOTS = list(range(100, 400))


def questions(begin, number):
    """`number` questions of 20 tokens behind `begin`, four choices each."""
    return [
        Scored([*begin, *range(1000 + 20 * q, 1020 + 20 * q), 7, c], [7, c, 9]) for q in range(number) for c in range(4)
    ]


@pytest.mark.parametrize("budget", [1, 60, 500, 10**6])
def test_every_request_is_in_one_batch_and_no_question_in_two(budget):
    requests = questions([], 12)
    found = scoring.batches(requests, budget)
    assert sorted(i for batch in found for i in batch) == list(range(48))
    assert all(len(batch) % 4 == 0 for batch in found)
    assert {len({i // 4 for i in batch}) for batch in found} == {1: {1}, 60: {2}, 500: {12}, 10**6: {12}}[budget]


def test_a_shared_beginning_lets_a_batch_grow():
    alone, shared = (scoring.batches(questions(begin, 40), 400) for begin in ([], SHOTS))
    assert len(alone) > len(shared)
    assert len(scoring.batches(questions(SHOTS, 200), 400)) > 2


def test_other_orders_of_the_same_requests_make_the_same_batches():
    requests = questions(SHOTS, 9)
    there, back = scoring.batches(requests, 400), scoring.batches(requests[::-1], 400)
    assert [[requests[i] for i in b] for b in there] == [[requests[::-1][i] for i in b] for b in back]
