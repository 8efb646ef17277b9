"""Losses between a student's and a teacher's outputs, with their gradients, in pieces of the positions: no logits outlive it.

soft    T^2 KL(teacher || student) of both softmaxes of logits / T (Hinton et al. 2015)
hard    cross-entropy of the teacher's likeliest token
stored  as soft, where only the teacher's k likeliest tokens are known and the probability r of all the others together:
        T^2 (sum over the k of p log(p / q) + r log(r / s)), s being what the student gives the others. It is at most the soft
        loss (grouping loses information), and is it where k is the whole vocabulary. Its gradient is that of the soft loss with a
        teacher that shares r among the others as the student does, so nothing is learnt about them but their sum.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nlpft.losses import at_least_float32
from nlpft.models.projected_loss import Score, logits_to_gradient, spans
from nlpft.types import IGNORE

ROWS = 512  # positions whose logits, the student's and the teacher's, exist at a time
Logits = Callable[[slice], Tensor]  # a teacher's at some of the targets: [part, vocab]


class TopK(NamedTuple):
    """A teacher's likeliest tokens at each target, most likely first, by softmax of logits / T."""

    ids: Tensor  # [targets, k] int64
    log_p: Tensor  # [targets, k]
    rest: Tensor  # [targets] log of the probability of all other tokens; -inf where there are none


Compared = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
# (logits [part, vocab] in float32, part) -> losses [part] in nats, and their gradient [part, vocab]


def compared(answers: Logits | TopK, match: str, temperature: float) -> Compared:
    """What a student's logits cost beside `answers`; match: soft or hard."""
    if match == "hard":
        return lambda x, part: hard(x, best(answers, part))
    if isinstance(answers, TopK):
        return lambda x, part: bucketed(x, TopK(*(t[part] for t in answers)), temperature)
    return lambda x, part: soft(x, answers(part), temperature)


def mixed(targets: Tensor, teacher: Compared, weight: float) -> Score:
    """weight * teacher's loss + (1 - weight) * cross-entropy of `targets` [targets], where IGNORE counts nothing."""

    def score(logits: Tensor, part: slice) -> Tensor:
        x, learnt = at_least_float32(logits), targets[part] != IGNORE
        nats, gradient = teacher(x, part)
        total, gradient = weight * nats.masked_fill(~learnt, 0.0).sum(), gradient.mul_(weight)
        if weight < 1:
            labels = x.clone()  # becomes its gradient
            total = total + (1 - weight) * logits_to_gradient(labels, targets[part])
            gradient.add_(labels, alpha=1 - weight)
        logits.copy_(gradient.masked_fill_(~learnt[:, None], 0.0))
        return total

    return score


def soft(x: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """T^2 KL of each position and its gradient. x: [part, vocab]; teacher: as x; what only one of them has is padding."""
    shared = min(x.shape[1], teacher.shape[1])
    log_q = (x[:, :shared] / temperature).log_softmax(1)
    log_p = (teacher[:, :shared].to(x.dtype) / temperature).log_softmax(1)
    p = log_p.exp()
    nats = (p * (log_p - log_q)).sum(1) * temperature**2
    gradient = torch.zeros_like(x)
    gradient[:, :shared] = log_q.exp_().sub_(p).mul_(temperature)
    return nats, gradient


def bucketed(x: Tensor, answers: TopK, temperature: float) -> tuple[Tensor, Tensor]:
    """The stored loss of each position and its gradient, as the head of this file has it."""
    ids, log_p, rest = answers.ids, answers.log_p.to(x.dtype), answers.rest.to(x.dtype)[:, None]
    log_q = (x / temperature).log_softmax(1)
    others = log_q.scatter(1, ids, -torch.inf)
    log_s, there = others.logsumexp(1, keepdim=True), rest > -torch.inf
    surplus = torch.where(there, rest - log_s, 0.0)
    p, r = log_p.exp(), rest.exp()
    nats = (p * (log_p - log_q.gather(1, ids))).sum(1) + (r * surplus)[:, 0]
    wanted = others.add_(surplus).exp_().mul_(there).scatter_(1, ids, p)
    return nats * temperature**2, log_q.exp_().sub_(wanted).mul_(temperature)


def hard(x: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the tokens `best` [part] at each position, and its gradient."""
    log_q = x.log_softmax(1)
    nats = -log_q.gather(1, best[:, None])[:, 0]
    return nats, log_q.exp_().scatter_add_(1, best[:, None], -torch.ones_like(log_q[:, :1]))


def best(answers: Logits | TopK, part: slice) -> Tensor:
    """The teacher's likeliest token at each position, [part]."""
    return answers.ids[part, 0] if isinstance(answers, TopK) else answers(part).argmax(1)


def top_k(logits: Tensor, k: int, temperature: float) -> TopK:
    """The `k` likeliest tokens of each position, by softmax of logits [part, vocab] / T."""
    log_p = (at_least_float32(logits) / temperature).log_softmax(1)
    found = log_p.topk(k, 1)
    rest = log_p.scatter(1, found.indices, -torch.inf).logsumexp(1)
    return TopK(found.indices, found.values, rest)


def whole(logits: Tensor, score: Score, rows: int = ROWS) -> Tensor:
    """What `score` makes of logits [targets, vocab] that are there as a whole: of models whose head is more than a projection."""
    return _Whole.apply(logits, score, rows)


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, score: Score, rows: int) -> Tensor:
        gradient = logits.clone()
        parts = [score(gradient[part], part) for part in spans(len(logits), rows)]
        ctx.save_for_backward(gradient)
        return torch.stack(parts).sum() if parts else at_least_float32(logits.new_zeros(()))

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None
