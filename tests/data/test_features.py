"""Rows as features: batches of them, and new ones between neighbours (SMOTE)."""

import numpy as np
import pytest

from nlpft.data.examples import ExamplesConfig
from nlpft.data.features import Features, smote
from nlpft.data.loader import Share
from nlpft.errors import DataError
from nlpft.types import Layout

POINTS = np.array(
    [[x, 0] for x in range(8)] + [[0, 9], [4, 9]], np.float32
)  # the rare label's lie on a line of their own
TARGETS = np.array([0] * 8 + [1] * 2)


def test_new_rows_lie_between_those_of_the_rare_label():
    found, targets = smote(POINTS, TARGETS, 0)
    assert np.array_equal(found[:10], POINTS)
    assert np.bincount(targets).tolist() == [8, 8]
    new = found[10:]
    assert (targets[10:] == 1).all()
    assert (new[:, 1] == 9).all()
    assert ((new[:, 0] >= 0) & (new[:, 0] <= 4)).all()
    assert len(np.unique(new[:, 0])) > 2


def test_a_seed_makes_the_same_rows_again_and_another_one_others():
    assert np.array_equal(smote(POINTS, TARGETS, 3)[0], smote(POINTS, TARGETS, 3)[0])
    assert not np.array_equal(smote(POINTS, TARGETS, 3)[0], smote(POINTS, TARGETS, 4)[0])


def test_a_label_with_one_row_has_no_neighbour():
    with pytest.raises(DataError, match="label number 1 has one row"):
        smote(POINTS[:9], TARGETS[:9], 0)


def test_a_batch_holds_the_features_of_its_rows():
    rows = Features(None, Layout(True, "first"), POINTS, TARGETS, [f"f:{n}" for n in range(10)])
    batches = next(rows.steps(ExamplesConfig(rows_per_step=10, tokens_per_micro_batch=4), 0, Share()))
    assert [len(batch["targets"]) for batch in batches] == [4, 4, 2]
    for batch in batches:
        assert ((batch["features"][:, 1] == 9).long() == batch["targets"]).all()
    assert rows.places([9]) == ["f:9"]


@pytest.mark.parametrize("targets", [np.array([0.5, 2.0], np.float32), np.array([[1, 0], [1, 1]], np.float32)])
def test_targets_of_every_kind_stay_what_they_are(targets):
    batch = Features(None, Layout(True, "first"), POINTS[:2], targets, ["a", "b"]).batch([1, 0])
    assert batch["targets"].tolist() == targets[::-1].tolist()
