"""Cheap trials are exact: restored weights are the pretrained ones, and remembered features give the losses of computed ones."""

import pytest
import tiny_heads
import torch
from accelerate import Accelerator

from nlpft.data.example_batch import batch_of
from nlpft.data.examples import Examples, ExamplesConfig, task
from nlpft.data.loader import Share
from nlpft.models.blocks import blocks
from nlpft.models.head_forward import choose, logits
from nlpft.models.heads import new_head
from nlpft.objectives import classification
from nlpft.search import candidate, fitness
from nlpft.training.loop import StepSettings, train_steps
from nlpft.training.optim import OptimConfig, build_optimizer

CONFIG = ExamplesConfig(rows_per_step=5, tokens_per_micro_batch=20)
COUNT = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    bert = tiny_heads.save_bert(place / "bert", dropout=0.2)
    return tiny_heads.classified(place, bert), bert


@pytest.fixture(params=["varlen", "sdpa"])
def made(folder, request):
    """Model, rows; once packed and once padded."""
    data, bert = folder
    torch.manual_seed(0)
    model = new_head(str(bert), "float32", task(data / "train"))
    model.set_attn_implementation(request.param)
    rows = Examples(data / "train", choose(model, batch_of))
    assert rows.layout.packed == (request.param == "varlen")
    return model, rows


def keeps(*kept: int) -> dict:
    return {**{f"keep.{n:02}": int(n in kept) for n in range(COUNT)}, "keep.embeddings": 1}


def losses(model, rows, remembered: bool) -> list[float]:
    """Of seven steps, with dropout, with what rests computed or remembered."""
    first = fitness.first_trained(model)
    features = fitness.Features(model, rows, CONFIG)
    optimizer = build_optimizer(model, OptimConfig(lr=0.01))
    score = classification.build(classification.Config(), model)
    with fitness.resting(model, first) as tell:
        read = fitness.read_by(score, features, first, tell if remembered else lambda told: None)
        steps, settings = fitness.steps(rows, CONFIG, 0, 7), StepSettings(lambda step: 0.01)
        reports = train_steps(Accelerator(), model, optimizer, steps, read, classification.num_targets, settings)
        return [report.loss for report in reports]


@pytest.mark.parametrize("kept", [(), (0,), (0, 1)])
def test_remembered_features_change_no_loss(made, kept):
    model, rows = made
    weights = fitness.Pretrained(model)
    found = []
    for remembered in (False, True):
        weights.restore(model)
        candidate.train(model, keeps(*kept))
        assert fitness.first_trained(model) == len(kept)
        found.append(losses(model, rows, remembered))
    assert found[1] == pytest.approx(found[0], rel=2e-4)  # rows in other groups, and threads, round otherwise
    assert found[0][-1] != pytest.approx(found[0][0], rel=1e-3)


def test_remembered_blocks_are_not_computed(made):
    model, rows = made
    candidate.train(model, keeps(0))
    calls = []
    for block in blocks(model):
        block.attention.register_forward_hook(lambda module, inputs, output: calls.append(module))
    features = fitness.Features(model, rows, CONFIG)
    own, batch = next(fitness.batches(rows, CONFIG, rows.order(CONFIG, 0, 0)))
    told = features.of(1, own, batch)
    calls.clear()
    with fitness.resting(model, 1) as tell:
        tell(told)
        logits(model, batch)
    assert calls == [blocks(model)[1].attention]
    calls.clear()
    logits(model, batch)
    assert len(calls) == 2


def test_what_rests_has_no_dropout_and_the_rest_keeps_it(made):
    model, _ = made
    with fitness.resting(model, 1):
        model.train()
        assert not blocks(model)[0].attention.output.dropout.training
        assert not model.bert.embeddings.dropout.training
        assert blocks(model)[1].attention.output.dropout.training
        assert model.dropout.training
    model.train()
    assert all(module.training for module in model.modules())


def test_features_of_other_lower_blocks_are_others(made):
    model, rows = made
    features = fitness.Features(model, rows, CONFIG)
    own, batch = next(fitness.batches(rows, CONFIG, rows.order(CONFIG, 0, 0)))
    before = features.of(1, own, batch, "own")
    with torch.no_grad():
        blocks(model)[0].output.dense.bias[0] += 5
    assert torch.equal(features.of(1, own, batch, "own"), before)
    assert not torch.allclose(features.of(1, own, batch, "theirs"), before)


def test_what_was_told_serves_one_call(made):
    """So features of other rows can be computed in between."""
    model, rows = made
    features, others = (fitness.Features(model, rows, CONFIG) for _ in range(2))
    own, batch = next(fitness.batches(rows, CONFIG, rows.order(CONFIG, 0, 0)))
    before = others.of(1, own, batch)
    with fitness.resting(model, 1) as tell:
        tell(features.of(1, own[:1], rows.batch(own[:1])))
        logits(model, rows.batch(own[:1]))
        again = fitness.Features(model, rows, CONFIG).of(1, own, batch)
    assert torch.equal(again, before)


def test_few_features_are_kept_at_once(made, monkeypatch):
    model, rows = made
    monkeypatch.setattr(fitness, "MOST_BYTES", 1)
    features = fitness.Features(model, rows, CONFIG)
    own, batch = next(fitness.batches(rows, CONFIG, rows.order(CONFIG, 0, 0)))
    for first in (1, 2):
        features.of(first, own, batch)
        assert list(features.levels) == [(first, ())]


def test_restored_weights_are_the_pretrained_ones(made):
    model, rows = made
    weights = fitness.Pretrained(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    candidate.train(model, keeps())
    losses(model, rows, False)
    assert not all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    weights.restore(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_steps_are_those_of_a_run(made):
    _, rows = made
    theirs = rows.steps(CONFIG, 3, Share(0, 1))
    for parts in fitness.steps(rows, CONFIG, 3, 12):
        batches = next(theirs)
        assert len(parts) == len(batches)
        assert all(torch.equal(one["input_ids"], other["input_ids"]) for one, other in zip(parts, batches, strict=True))
