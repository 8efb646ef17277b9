"""Training: the loop that yields (loop), optimiser and schedule (optim), checkpoints, validation, the run's log."""
