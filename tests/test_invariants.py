"""What must hold whatever is added: the properties whose breach still lets the loss go down."""

import copy
import itertools

import pytest
import tiny
import torch
from accelerate import Accelerator

from nlpft import losses, plugins
from nlpft.data.collate import collate
from nlpft.data.convert import Options, convert
from nlpft.data.loader import DataConfig, PackedData, Share
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ModelError
from nlpft.models.forward import check_isolation, forward
from nlpft.training.loop import StepSettings, evaluate_loss, train_steps

OBJECTIVE = plugins.load("objectives", "causal_lm")
STEP_LOSS = OBJECTIVE.build(OBJECTIVE.Config(), None)


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("data")
    rows = [tiny.chat("word " * (1 + n % 9), f"reply {n} " * (1 + n % 7), "more", "x" * (n % 5 + 1)) for n in range(23)]
    convert([tiny.write_json(folder / "rows.json", rows)], folder / "out", TextTokenizer(tiny_folder), Options())
    return PackedData(folder / "out", 160)


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def model(request):
    model = tiny.make_model()
    model.set_attn_implementation(request.param)
    return model.eval()


@torch.no_grad()
def nats(model, data, packs):
    return [STEP_LOSS(model, collate(data.columns, rows)).item() for rows in packs]


def test_packing_changes_no_loss(model, data):
    packs = data.packs(0, 0)
    assert len(packs) < len(data.columns.lengths) / 2
    apart = dict(enumerate(nats(model, data, [[row] for row in range(len(data.columns.lengths))])))
    for rows, loss in zip(packs, nats(model, data, packs), strict=True):
        assert loss == pytest.approx(sum(apart[row] for row in rows), rel=1e-5)


def test_padding_changes_no_loss(model, data):
    rows = data.packs(0, 0)[0]
    with torch.no_grad():
        a, b = (STEP_LOSS(model, collate(data.columns, rows, pad_to)).item() for pad_to in (0, 300))
    assert a == pytest.approx(b, rel=1e-5)


def test_logits_of_a_pack_are_those_of_its_rows_alone(model, data):
    rows = data.packs(0, 0)[0]
    packed = collate(data.columns, rows)
    whole = forward(model, packed, torch.arange(packed["input_ids"].shape[1]))
    start = 0
    for row in rows:
        alone = collate(data.columns, [row])
        length = alone["input_ids"].shape[1]
        expected = forward(model, alone, torch.arange(length))
        torch.testing.assert_close(whole[start : start + length], expected, rtol=1e-4, atol=1e-5)
        start += length


def test_loss_is_the_textbook_one_on_one_row(model, data):
    batch = collate(data.columns, [3])
    with torch.no_grad():
        ours = STEP_LOSS(model, batch) / losses.num_targets(batch["labels"])
        theirs = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    torch.testing.assert_close(ours, theirs)


def gradients(model, steps):
    """Weights' change after one SGD step of rate 1 = the gradient; and the report."""
    student = copy.deepcopy(model)
    optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
    settings = StepSettings(lambda step: 1.0, max_grad_norm=0)
    report = next(
        train_steps(Accelerator(cpu=True), student, optimizer, steps, STEP_LOSS, OBJECTIVE.num_targets, settings)
    )
    before = dict(model.named_parameters())
    return {name: before[name].detach() - p.detach() for name, p in student.named_parameters()}, report


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_accumulation_changes_no_gradient(model, data, size):
    def step(n):
        return data.steps(
            DataConfig(data.folder, max_length=160, packs_per_step=8, packs_per_micro_batch=n), 0, Share()
        )

    (one, a), (many, b) = gradients(model, step(1)), gradients(model, step(size))
    assert (a.targets, a.tokens) == (b.targets, b.tokens)
    assert (a.loss, a.grad_norm) == pytest.approx((b.loss, b.grad_norm), rel=1e-5)
    for name in one:
        torch.testing.assert_close(one[name], many[name], rtol=1e-4, atol=1e-6)


def test_a_micro_batch_without_targets_changes_no_gradient(model, data):
    (step,) = itertools.islice(data.steps(DataConfig(data.folder, max_length=160), 0, Share()), 1)
    empty = collate(data.columns, [])
    (one, a), (two, b) = gradients(model, [step]), gradients(model, [[*step, empty]])
    assert a.loss == pytest.approx(b.loss)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-7)


def test_held_out_loss_is_weighted_by_token(model, data):
    packs = data.packs(0, 0)
    expected = sum(nats(model, data, packs)) / sum(
        int(losses.num_targets(collate(data.columns, p)["labels"])) for p in packs
    )
    for size in (1, 3):
        batches = data.micro_batches(packs, size, Share())
        loss, targets = evaluate_loss(Accelerator(cpu=True), model, batches, STEP_LOSS, OBJECTIVE.num_targets)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert targets == (data.columns.labels >= 0).sum()


def test_a_model_that_leaks_is_refused(model, data):
    check_isolation(model, data.probe(400, 1))

    class Leaking(torch.nn.Module):
        def forward(self, input_ids, position_ids, **kwargs):
            return model(input_ids=input_ids, **kwargs)

    with pytest.raises(ModelError, match="leak"):
        check_isolation(Leaking(), data.probe(400, 1))
