"""How a search picks its next candidate: `search.name NAME`. One file is one sampler of Optuna; it has

Config                                         # frozen dataclass, first field name: Literal["NAME"] = "NAME"
build(config, seed, budget, space) -> BaseSampler    # budget: candidates that will be scored; space: distributions by name
least(config) -> int                           # budget below which the search would be none
"""
