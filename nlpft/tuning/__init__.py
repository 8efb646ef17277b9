"""Tuning methods: which weights are trained. One file is one method; it has

Config                          # its settings; `name` first, the file's own name
apply(model, config) -> model   # mark (or add) the weights that train; the others get requires_grad=False
"""
