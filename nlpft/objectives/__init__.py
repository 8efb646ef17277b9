"""Objectives: what a batch is scored by. One file is one objective; it has

Config                                        # its settings; `name` first, the file's own name
build(config, model) -> step_loss             # step_loss(model, batch) -> SUM over the batch's targets, in nats
num_targets(batch) -> Tensor                  # how many positions that sum counts

and those of pretraining, which recipes/pretrain.py takes:

KIND                                          # of models it trains (models/kinds.py): "decoder", "encoder", "encoder-decoder"
PLAN                                          # which rows share a batch (data/pack.py)
corruption(config, model, tokenizer)          # what it hides of a batch (data/loader.py's Corrupt)
"""
