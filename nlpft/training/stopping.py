"""The best evaluation so far, and when to stop waiting for a better one."""

from dataclasses import asdict, dataclass


@dataclass
class Best:
    """Lowest held-out loss and its step; `patience` is counted in evaluations (0: never stop)."""

    patience: int = 0
    step: int | None = None
    loss: float = float("inf")
    waited: int = 0  # evaluations since the best

    def update(self, step: int, loss: float) -> None:
        if loss < self.loss:  # false for NaN too
            self.step, self.loss, self.waited = step, loss, 0
        else:
            self.waited += 1

    def stop(self) -> bool:
        return 0 < self.patience <= self.waited

    def state(self) -> dict[str, float | int | None]:
        """What a checkpoint keeps; `Best(patience, **state)` is its undo."""
        state = asdict(self)
        del state["patience"]
        return state
