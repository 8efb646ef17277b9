"""Tuning methods: which weights are trained. One file is one method; it has

Config                          # its settings; `name` first, the file's own name
apply(model, config) -> model   # mark (or add) the weights that train; the others get requires_grad=False

and, where the method wants more (training/method.py asks for them):

load_options(config, dtype) -> dict              # keywords of transformers' from_pretrained; dtype: torch's, of the weights
rate_factors(model, config) -> dict              # factor of the learning rate, by name of parameter, where it is not 1
hold(model, config, max_steps) -> hold_back      # hold_back(step) sets the gradient of what does not train yet in that step
                                                 # (counted from 1) to None, after backward and before gradients are clipped
"""
