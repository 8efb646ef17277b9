"""Tiny models of every kind, as configurations, and raw text to pretrain them on."""

import json
import random
from pathlib import Path

WORDS = ["the", "a", "cat", "dog", "bird", "sees", "hears", "finds", "likes", "small", "large", "old", "new", "house", "tree",
         "river", "today", "often", "never", "quickly"]  # fmt: skip
CONFIGS = {
    "decoder": {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
    },
    "encoder": {
        "model_type": "bert",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    },
    "encoder-decoder": {
        "model_type": "t5",
        "d_model": 32,
        "d_ff": 64,
        "d_kv": 8,
        "num_layers": 2,
        "num_heads": 4,
    },
}


def sentences(count: int, seed: int = 0) -> str:
    """So many sentences of random words."""
    draw = random.Random(seed)
    return " ".join(" ".join(draw.choices(WORDS, k=draw.randint(4, 9))).capitalize() + "." for _ in range(count))


def write_text(path: Path, documents: int = 12, seed: int = 0) -> Path:
    """Documents of 1 to `documents` times 4 sentences, a blank line between them."""
    path.write_text("\n\n".join(sentences(4 * n, seed + n) for n in range(1, documents + 1)) + "\n", encoding="utf-8")
    return path


def write_config(folder: Path, kind: str, **more: object) -> Path:
    path = folder / f"{kind}.json"
    path.write_text(json.dumps({**CONFIGS[kind], **more}), encoding="utf-8")
    return path
