"""Models: where they come from (pretrained), their blocks, the one call of a model (forward), and answers (generate)."""
