"""Labelled rows in batches: each row once an epoch, the same step however it is cut, and batches that hold what they say."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import tiny_heads
import torch

from nlpft.data.example_batch import batch_of
from nlpft.data.examples import Examples, ExamplesConfig, check, task
from nlpft.data.loader import Share
from nlpft.errors import ConfigError, DataError
from nlpft.types import Layout, Task

PACKED, PADDED = Layout(True, "first"), Layout(False, "first")
MIXED = ExamplesConfig(rows_per_step=5, mixup=0.5)
LENGTHS = [3, 9, 4, 7, 5, 3, 8, 6, 4, 5]
ROWS = [[2, *range(5, 5 + n - 2), 3] for n in LENGTHS]


def data(layout=PACKED, **options):
    columns = {"target": pa.array(range(10), pa.int32()), "source": [f"f:{n}" for n in range(10)]}
    return Examples(None, layout, table=tiny_heads.table(ROWS, **columns), **options)


def seen(batches):
    return sorted(int(t) for b in batches for t, c in zip(b["targets"], b["counted"], strict=True) if c)


def uneven(counts):
    """Rows of one length, so many of each label."""
    targets = np.repeat(np.arange(len(counts)), counts)
    return Examples(
        None, PACKED, table=tiny_heads.table([[2, 5, 3]] * len(targets), target=pa.array(targets, pa.int32()))
    )


@pytest.mark.parametrize(("sampling", "each"), [("over", 9), ("under", 2)])
def test_sampled_epochs_have_every_label_equally_often(sampling, each):
    rows, config = uneven([9, 4, 2]), ExamplesConfig(sampling=sampling, rows_per_step=5)
    per_epoch = rows.steps_per_epoch(config)
    assert per_epoch == -(-3 * each // 5)
    steps = rows.steps(config, 0, Share())
    for _ in range(3):
        assert sorted(chain(*(seen(next(steps)) for _ in range(per_epoch)))) == [0] * each + [1] * each + [2] * each


def test_undersampling_takes_other_rows_in_each_epoch_and_oversampling_all_in_each():
    rows = uneven([9, 2])
    under, over = ([set(rows.order(ExamplesConfig(sampling=how), 0, epoch).tolist()) for epoch in range(9)]
                   for how in ("under", "over"))  # fmt: skip
    assert len(set().union(*under)) > len(under[0])
    assert over == [set(range(11))] * 9


def test_a_sampled_run_goes_on_at_any_step_and_another_seed_draws_others():
    rows, config = uneven([9, 4, 2]), ExamplesConfig(sampling="over", rows_per_step=4)
    whole = [rows.order(config, 3, epoch).tolist() for epoch in range(2)]
    assert whole == [rows.order(config, 3, epoch).tolist() for epoch in range(2)]
    assert whole[0] != rows.order(config, 4, 0).tolist()
    steps = rows.steps(config, 3, Share())
    before = [seen(next(steps)) for _ in range(12)]
    later = rows.steps(config, 3, Share(), first_step=8)
    assert [seen(next(later)) for _ in range(4)] == before[8:]


def test_every_row_is_seen_once_an_epoch_and_in_another_order_in_the_next():
    steps = data().steps(ExamplesConfig(rows_per_step=4), 0, Share())
    epochs = [[seen(next(steps)) for _ in range(3)] for _ in range(2)]
    assert [sorted(chain(*epoch)) for epoch in epochs] == [list(range(10))] * 2
    assert [len(step) for step in epochs[0]] == [4, 4, 2]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("layout", [PACKED, PADDED])
@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("tokens", [1, 12, 4096])
def test_a_step_has_the_same_rows_however_it_is_cut(layout, processes, tokens):
    whole = [
        seen(step) for step, _ in zip(data().steps(ExamplesConfig(rows_per_step=4), 7, Share()), range(5), strict=False)
    ]
    config = ExamplesConfig(rows_per_step=4, tokens_per_micro_batch=tokens)
    parts = [data(layout).steps(config, 7, Share(p, processes)) for p in range(processes)]
    for expected in whole:
        shares = [next(part) for part in parts]
        assert len({len(batches) for batches in shares}) == 1
        assert sorted(chain(*map(seen, shares))) == expected


def test_a_run_goes_on_at_any_step():
    config = ExamplesConfig(rows_per_step=4)
    steps = data().steps(config, 3, Share())
    before = [seen(next(steps)) for _ in range(8)]
    later = data().steps(config, 3, Share(), first_step=5)
    assert [seen(next(later)) for _ in range(3)] == before[5:]


def test_micro_batches_hold_at_most_the_tokens_asked_for():
    for layout in (PACKED, PADDED):
        parts = data(layout).cut(np.arange(10), 12, 1)
        widths = [max(LENGTHS[r] for r in part) for part in parts]
        costs = [
            sum(LENGTHS[r] for r in p) if layout.packed else len(p) * w for p, w in zip(parts, widths, strict=True)
        ]
        assert max(costs) <= 12
        assert sorted(chain(*parts)) == list(range(10))


def test_a_padded_batch_wastes_little():
    for part in data(PADDED).cut(np.arange(10), 4096, 1):
        assert min(LENGTHS[r] for r in part) >= 0.8 * max(LENGTHS[r] for r in part)


def test_sources_name_the_rows_of_a_micro_batch():
    config, made = ExamplesConfig(rows_per_step=4, tokens_per_micro_batch=12), data()
    batches = [next(made.steps(config, 5, Share(p, 2), first_step=1)) for p in range(2)]
    for number in range(2 * len(batches[0])):
        round_, process = divmod(number, 2)
        expected = [f"f:{t}" for t in seen([batches[process][round_]])]
        assert sorted(made.sources(config, 5, 2, 2, [number])) == expected


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("tokens", [1, 20, 4096])
def test_partners_and_shares_are_the_same_however_a_step_is_cut(processes, tokens):
    def mixes(steps):
        found = set()
        for batch in chain(*steps):
            for target, partner, share, counted in zip(
                batch["targets"].tolist(),
                batch["partner"].tolist(),
                batch["share"].tolist(),
                batch["counted"],
                strict=True,
            ):
                if counted:
                    found.add((target, int(batch["targets"][partner]), share))
        return found

    whole = [mixes([step]) for step, _ in zip(data().steps(MIXED, 7, Share()), range(4), strict=False)]
    assert [len(step) for step in whole] == [5, 5, 5, 5]
    assert all(sum(a == b for a, b, _ in step) == 1 for step in whole)  # of five rows one is alone
    config = replace(MIXED, tokens_per_micro_batch=tokens)
    parts = [data().steps(config, 7, Share(p, processes)) for p in range(processes)]
    for expected in whole:
        assert mixes([next(part) for part in parts]) == expected


def test_a_row_that_is_left_over_comes_last_however_long_it_is():
    assert data().cut(np.array([0, 2, 5, 8, 1]), 4096, 1, together=2) == [[0, 2, 5, 8, 1]]
    assert data().cut(np.array([0, 2, 5, 8, 1]), 10, 1, together=2) == [[0, 2], [5, 8], [1]]


def test_sources_name_the_rows_of_a_mixed_micro_batch():
    config, made = replace(MIXED, tokens_per_micro_batch=20), data()
    for number, batch in enumerate(next(made.steps(config, 5, Share(), first_step=1))):
        assert made.sources(config, 5, 1, 2, [number]) == [f"f:{t}" for t in batch["targets"].tolist()]


def test_a_packed_batch_by_hand():
    batch = batch_of([[2, 7, 3], [2, 3]], Layout(True, "last", first_position=1, pad_id=0))
    assert batch["input_ids"].tolist() == [[2, 7, 3, 2, 3]]
    assert batch["position_ids"].tolist() == [[1, 2, 3, 1, 2]]
    assert batch["cu_seqlens"].tolist() == [0, 3, 5]
    assert batch["positions"].tolist() == [2, 4]
    assert (batch["max_seqlen"].item(), batch["cu_seqlens"].dtype) == (3, torch.int32)


def test_a_padded_batch_by_hand():
    layout = Layout(False, "labelled", pad_id=9, token_types=True)
    batch = batch_of([[2, 7, 3], [2, 3]], layout, [np.array([1]), np.array([0, 1])], [2, 0])
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 3, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert batch["positions"].tolist() == [1, 3, 4]


def test_the_last_token_that_is_not_padding_is_read():
    assert batch_of([[2, 7, 0], [2, 3]], Layout(True, "last", pad_id=0))["positions"].tolist() == [1, 4]


def test_tags_are_targets_where_words_begin():
    rows, labels = [[2, 5, 6, 3], [2, 7, 3]], [[-100, 1, -100, -100], [-100, 2, -100]]
    made = Examples(None, Layout(True, "labelled"), table=tiny_heads.table(rows, labels=labels))
    batch = made.batch([1, 0])
    assert batch["targets"].tolist() == [2, 1]
    assert batch["positions"].tolist() == [1, 4]


def test_a_row_longer_than_the_model_sees_is_refused_by_name():
    with pytest.raises(DataError, match="f:1: 9 tokens, the model sees 8"):
        data(context=8)


def test_a_dataset_says_its_task(tmp_path):
    bert = tiny_heads.save_bert(tmp_path / "bert")
    folder = tiny_heads.classified(tmp_path, bert)
    assert task(folder / "train") == Task("single_label_classification", ("no", "yes"), (12, 12))
    assert task(tiny_heads.tagged(tmp_path / "bert", bert) / "train").labels[0] == "O"


def test_datasets_with_other_labels_are_refused(tmp_path):
    bert = tiny_heads.save_bert(tmp_path / "bert")
    yes_no, tags = tiny_heads.classified(tmp_path, bert), tiny_heads.tagged(tmp_path / "bert", bert)
    check(ExamplesConfig(train=yes_no / "train", eval=yes_no / "eval", test=yes_no / "test"))
    with pytest.raises(ConfigError, match=r"are not those of .*single_label_classification: no, yes"):
        check(ExamplesConfig(train=yes_no / "train", eval=tags / "eval"))


def test_sampling_and_features_are_refused_for_tags(tmp_path):
    tags = tiny_heads.tagged(tmp_path, tiny_heads.save_bert(tmp_path / "bert"))
    for settings, said in (
        ({"sampling": "over"}, "data.sampling over: for one label"),
        ({"features": "once"}, "data.features"),
    ):
        with pytest.raises(ConfigError, match=said):
            check(ExamplesConfig(train=tags / "train", **settings))


def test_settings_that_no_data_could_satisfy_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.rows_per_step 0"):
        check(ExamplesConfig(train=tmp_path, rows_per_step=0))
    with pytest.raises(ConfigError, match=r"data\.train is not set"):
        check(ExamplesConfig())
