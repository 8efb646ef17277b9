"""What is learnt of a teacher's insides in a step: which blocks are matched, and the sum of their losses."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nlpft.distillation import states
from nlpft.distillation.states import States, captured
from nlpft.errors import ConfigError
from nlpft.models.blocks import blocks
from nlpft.models.forward import bare


@dataclass(frozen=True)
class Insides:
    """Settled for one student and one teacher."""

    hidden: float  # factor
    relations: float  # factor
    matched: list[tuple[int, int]]  # blocks of student and teacher
    parts: int  # of queries, keys and values
    bring: list[Any]  # for each pair what brings the student's width to the teacher's, or None
    causal: bool  # whether a token sees those before it only

    def of_student(self, model: Any) -> AbstractContextManager[States]:
        return captured(model, [own for own, _ in self.matched], bool(self.relations))

    def of_teacher(self, model: Any) -> AbstractContextManager[States]:
        return captured(model, sorted({its for _, its in self.matched}), bool(self.relations))

    def loss(self, student: States, teacher: States, batch: dict[str, Tensor], counts: Tensor) -> Tensor:
        """hidden * ... + relations * ..., summed over the `positions` of the packed `batch` that count (bool [targets])."""
        positions, total = batch["positions"], torch.zeros((), device=counts.device)
        if self.hidden:
            own, its = (
                [s.hidden[n] for n in numbers]
                for s, numbers in zip((student, teacher), zip(*self.matched, strict=True), strict=True)
            )
            total = total + self.hidden * states.hidden_loss(own, its, positions, counts, self.bring)
        if self.relations:
            where = batch["cu_seqlens"], positions, counts
            total = total + self.relations * states.relations_loss(student, teacher, *where, self.parts, self.causal)
        return total


def settle(config: Any, model: Any, master: Any, bring: list[Any], causal: bool, key: str) -> Insides | None:
    """What the settings `config` (hidden, relations, relation_heads) want of these models; None where it is nothing.

    bring: see Insides. key: how the names of the settings begin. Raises ConfigError where relations cannot be cut so, or lie in
    compiled blocks; ModelError where an architecture has no layers of their own for them.
    """
    if not (config.hidden or config.relations):
        return None
    parts = config.relation_heads or states.heads(model, master)
    matched = states.pairs(len(blocks(bare(model))), len(blocks(bare(master))))
    if config.relations:
        states.check_heads(parts, [model, master], key)
    for one in (model, master) if config.relations else ():
        states.query_key_value(blocks(bare(one))[-1], type(bare(one)).__name__)
        if any("forward" in vars(block) for block in blocks(bare(one))):
            raise ConfigError(f"{key}.relations: lie within blocks, which are compiled here; set compute.compile false")
    return Insides(config.hidden, config.relations, matched if config.hidden else [], parts, bring, causal)
