"""Mixed rows: partners by twos with one share, and runs of tagged words that cut no span and bring their tags along."""

import numpy as np
import pytest

from nlpft.data.mixing import Tagged, pairs, spans
from nlpft.types import IGNORE

NAMES = ("O", "B-x", "I-x")
# Rows [CLS]=2, words of one or two pieces, [SEP]=3; a word's first piece says its row and place: 100 * row + 10 * place.
ROWS = [
    ([2, 110, 120, 121, 130, 140, 150, 3], [-100, 0, 1, -100, 2, 0, 0, -100]),
    ([2, 210, 220, 221, 230, 240, 241, 250, 260, 3], [-100, 1, 2, -100, 0, 1, -100, 2, 0, -100]),
    ([2, 310, 3], [-100, 0, -100]),
]


def tagged():
    ids, labels = (np.concatenate([np.array(row[i]) for row in ROWS]) for i in (0, 1))
    return Tagged(ids, np.cumsum([0, *(len(row[0]) for row in ROWS)]), labels)


def rows_of(found):
    return [
        (found.ids[a:b].tolist(), found.labels[a:b].tolist())
        for a, b in zip(found.offsets, found.offsets[1:], strict=False)
    ]


def test_a_token_keeps_its_tag_and_no_span_is_cut_wherever_it_goes():
    tag_of = {token: tag for row in ROWS for token, tag in zip(*row, strict=True)}
    changed = set()
    for seed in range(40):
        for number, (ids, labels) in enumerate(rows_of(spans(tagged(), NAMES, 1.0, (seed, 0), 20))):
            assert labels == [tag_of[token] for token in ids]
            assert (ids[0], ids[-1]) == (2, 3)
            tags = [tag for tag in labels if tag != IGNORE]
            assert all(before != 0 for before, tag in zip([0, *tags], tags, strict=False) if tag == 2)
            for whole in ([120, 121, 130], [220, 221], [240, 241, 250]):  # pieces of a word, words of a span
                assert not set(whole) & set(ids) or all(token in ids for token in whole)
            changed |= {number} if ids != ROWS[number][0] else set()
    assert changed == {0, 1}  # the third has one word


def test_a_run_comes_from_another_row_and_takes_at_most_half_of_the_words():
    mixed = 0
    for seed in range(200):
        ids = rows_of(spans(tagged(), NAMES, 1.0, (seed, 0), 20))[0][0]
        assert len({110, 120, 130, 140, 150} & set(ids)) >= 2  # two of five, and what belongs to their span
        assert 150 in ids
        mixed += bool({token for token in ids if token // 100 == 2})
        assert len(ids) == len(set(ids))
    assert mixed > 40


def test_a_probability_of_rows_is_mixed_and_each_epoch_mixes_others():
    many = Tagged(np.tile(tagged().ids[:8], 200), np.arange(201) * 8, np.tile(tagged().labels[:8], 200))
    numbered = many._replace(ids=many.ids + 1000 * np.repeat(np.arange(200), 8))
    one, again, later = (spans(numbered, NAMES, 0.5, (3, epoch), 20) for epoch in (0, 0, 1))
    assert np.array_equal(one.ids, again.ids)
    assert not np.array_equal(one.ids, later.ids)
    share = np.mean([len({token // 1000 for token in ids}) > 1 for ids, _ in rows_of(one)])
    assert 0.2 < share < 0.5


def test_no_row_becomes_longer_than_allowed():
    longest = [
        max(len(rows_of(spans(tagged(), NAMES, 1.0, (seed, 0), most))[0][0]) for seed in range(60)) for most in (8, 20)
    ]
    assert longest[0] == 8 < longest[1]


def test_neighbours_are_partners_with_one_share():
    partner, share = pairs([7, 3, 9, 4, 5], 0.5, (1, 2))
    assert partner.tolist() == [1, 0, 3, 2, 4]
    assert share[0] == share[1] != share[2] == share[3]
    assert share[4] == 1
    assert pairs([9, 4], 0.5, (1, 2))[1].tolist() == share[2:4].tolist()
    assert pairs([9, 4], 0.5, (1, 3))[1].tolist() != share[2:4].tolist()


def test_a_process_without_rows_has_a_batch_all_the_same():
    partner, share = pairs([], 0.5, (0, 0))
    assert (partner.tolist(), share.tolist()) == ([0], [1.0])


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.1, 0.1, 0.25), (8.0, 0.0, 0.02)])
def test_alpha_says_how_evenly_texts_are_mixed(alpha, low, high):
    drawn = np.array([pairs([n, n + 1], alpha, (0, 0))[1][0] for n in range(800)])
    assert low < drawn.var() <= high
    assert abs(drawn.mean() - 0.5) < 0.05
