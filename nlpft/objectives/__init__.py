"""Objectives: what a batch is scored by. One file is one objective; it has

Config                                        # its settings; `name` first, the file's own name
build(config, model) -> step_loss             # step_loss(model, batch) -> SUM over the batch's targets, in nats
num_targets(batch) -> Tensor                  # how many positions that sum counts
"""
