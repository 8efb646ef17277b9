"""Strategies of transfer: how a pretrained model comes to a task within a budget. One file is one strategy; it has

Config                                    # its settings; `name` first, the file's own name
check(config, lab)                        # raises ConfigError for what cannot work in this laboratory, before anything trains
train(config, lab, seed) -> predict       # predict(rows) -> logits [targets, outputs], float32, in the order of the rows

lab (`_lab.py`) holds the model, the rows and the meter (`_meter.py`) of the one budget: whatever goes through the model is
counted where the model is called; a further model, such as a teacher, by `_meter.attach(teacher, lab.meter)`, its rows as if they
were the model's own. Rows of the test are not in it. What a strategy makes of `lab.eval` is its own decision, and
part of its cost.
"""
