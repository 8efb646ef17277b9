"""Adversarial training: moves of the length that is set, along the gradient, within the ball, and paid for."""

import laboratories
import pytest
import torch

from nlpft.errors import ConfigError
from nlpft.models.head_forward import logits
from nlpft.strategies import _lab, adversarial
from nlpft.strategies.adversarial import Config
from nlpft.training import method

PACKED = {"cu_seqlens": torch.tensor([0, 3, 5], dtype=torch.int32)}
PADDED = {"attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}


def lengths_of_rows(values: torch.Tensor) -> list[float]:
    """Of packed values [1, 5, width] of a row of three tokens and one of two."""
    return [values[0, :3].norm().item(), values[0, 3:].norm().item()]


@pytest.fixture
def lab(made):
    _lab.begin(made[0], 0)
    made[0].model.eval()  # no dropout: the same call twice says the same
    return made[0]


def batch_of(lab, count: int = 4) -> dict:
    return lab.train.batch(range(count))


def test_a_move_has_the_length_that_is_set_in_every_row():
    gradient = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    lengths = 0.3 * adversarial.norms(torch.ones(1, 5, 4), PACKED)
    moved = adversarial.along(gradient, PACKED, lengths)
    assert lengths_of_rows(moved) == pytest.approx([0.3 * 12**0.5, 0.3 * 8**0.5])
    for row in (slice(0, 3), slice(3, 5)):
        cosine = torch.cosine_similarity(moved[0, row].flatten(), gradient[0, row].flatten(), dim=0)
        assert cosine.item() == pytest.approx(1)


def test_padding_is_no_part_of_a_rows_length():
    values = torch.ones(2, 3, 4)
    assert adversarial.norms(values, PADDED).flatten().tolist() == pytest.approx([12**0.5, 8**0.5])
    assert adversarial.norms(values[:1].repeat(1, 2, 1)[:, :5], PACKED)[0, :, 0].tolist() == pytest.approx(
        [12**0.5] * 3 + [8**0.5] * 2
    )


def test_projection_leaves_what_is_inside_and_shortens_what_is_not():
    radius = torch.full((1, 5, 1), 2.0)
    inside = torch.full((1, 5, 4), 0.1)
    assert torch.equal(adversarial.within(inside, PACKED, radius), inside)
    assert lengths_of_rows(adversarial.within(10 * inside, PACKED, radius)) == pytest.approx([2, 2])


def test_a_row_without_gradient_is_not_moved():
    assert adversarial.along(torch.zeros(1, 5, 4), PACKED, torch.ones(1, 5, 1)).abs().max() == 0


@pytest.mark.parametrize("attack", ["fgm", "pgd"])
def test_the_embeddings_move_as_far_as_is_set_and_the_loss_rises(lab, attack, monkeypatch):
    loss, _ = method.score(lab.cfg.objective, lab.model)
    batch, seen = batch_of(lab), []
    real = adversarial.embedded

    class Watching:
        def __init__(self, model):
            self.inner = real(model)

        def __enter__(self):
            self.place = self.inner.__enter__()
            return self.place

        def __exit__(self, *error):
            seen.append(self.place)
            return self.inner.__exit__(*error)

    monkeypatch.setattr(adversarial, "embedded", Watching)
    config = Config(attack=attack, epsilon=0.2, move=0.15, moves=3)
    clean = loss(lab.model, batch).item()
    found = getattr(adversarial, attack)(config, loss)(lab.model, batch)
    (place,) = seen
    shares = adversarial.norms(place.moved, batch) / adversarial.norms(place.clean, batch)
    assert shares.min().item() > 0.1
    assert shares.max().item() == pytest.approx(0.2, rel=1e-4)
    if attack == "fgm":
        assert shares.flatten().tolist() == pytest.approx([0.2] * shares.numel(), rel=1e-4)
    assert found.item() > clean * 1.02
    assert torch.equal(logits(lab.model, batch), logits(lab.model, batch))
    assert loss(lab.model, batch).item() == pytest.approx(clean)  # the hook is gone


@pytest.mark.parametrize(("attack", "passes"), [("fgm", 8 / 3), ("pgd", 4.0)])
def test_a_step_costs_what_is_planned_for_it(lab, attack, passes):
    config = Config(attack=attack)
    loss, _ = method.score(lab.cfg.objective, lab.model)
    getattr(adversarial, attack)(config, loss)(lab.model, batch_of(lab, 8)).backward()
    assert lab.meter.steps == pytest.approx(passes) == adversarial.passes(config)


@pytest.mark.parametrize("words", ["--epsilon 0", "--move -1", "--moves 0", "--evaluations -1"])
def test_attacks_that_mean_nothing_are_refused(made, words):
    with pytest.raises(ConfigError):
        laboratories.ran(*made, f"adversarial {words}")


def test_a_budget_below_one_step_is_refused(made):
    with pytest.raises(ConfigError, match="needs at least 41"):
        laboratories.ran(*made, "adversarial --attack pgd --moves 40 --evaluations 0")
