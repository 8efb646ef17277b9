"""A prefix tree holds each sequence whole, each shared beginning once, and its masks show a token its own past alone."""

import numpy as np
import pytest

from nlpft.models import prefix_tree

LONG = list(range(10, 40))
CASES = {
    "choices": [[*LONG, 1, 2, 3], [*LONG, 1, 4], [*LONG, 5, 6, 7, 8], [*LONG, 5]],
    "prefixes of each other": [LONG, LONG[:9], LONG[:20], [*LONG, 1]],
    "equal": [LONG, LONG, [7], [7]],
    "nothing in common": [[1, 2, 3], [4, 5, 6], [1, 9]],
    "nested": [[*LONG, *range(q, q + 12), c] for q in (50, 70, 90) for c in (1, 2, 3)],
}


@pytest.fixture(params=CASES, ids=str)
def sequences(request):
    return CASES[request.param]


def test_each_sequence_is_on_its_path(sequences):
    tree = prefix_tree.build(sequences)
    for i, sequence in enumerate(sequences):
        path = prefix_tree.path(tree, i)
        assert tree.ids[path].tolist() == sequence
        assert tree.positions[path].tolist() == list(range(len(sequence)))
        assert prefix_tree.path(tree, i, 2).tolist() == path[-2:].tolist()


@pytest.mark.parametrize(
    ("case", "tokens"), [("choices", 30 + 3 + 1 + 4), ("equal", 31), ("nested", 30 + 3 * (12 + 3))]
)
def test_what_is_shared_stands_once(case, tokens):
    assert len(prefix_tree.build(CASES[case]).ids) == tokens


def test_a_short_common_beginning_is_not_shared():
    begin = LONG[: prefix_tree.MIN_SHARED - 1]
    assert len(prefix_tree.build([[*begin, 1], [*begin, 2]]).ids) == 2 * prefix_tree.MIN_SHARED
    begin = LONG[: prefix_tree.MIN_SHARED]
    assert len(prefix_tree.build([[*begin, 1], [*begin, 2]]).ids) == prefix_tree.MIN_SHARED + 2


@pytest.mark.parametrize("limit", [1, 5, 40, 1000])
def test_cells_show_each_token_exactly_its_own_past(sequences, limit):
    tree = prefix_tree.build(sequences)
    seen = np.zeros((len(tree.ids), len(tree.ids)), int)
    for cell in prefix_tree.cells(tree, limit):
        own = np.arange(cell.start, cell.end)
        keys = np.concatenate([*(np.arange(*part) for part in cell.before), own])
        seen[np.ix_(own, keys)] += prefix_tree.mask(tree, cell)
    expected = np.zeros_like(seen)
    for i in range(len(sequences)):
        path = prefix_tree.path(tree, i)
        for n, place in enumerate(path):
            expected[place, path[: n + 1]] = 1
    assert np.array_equal(seen, expected)
