"""A folder that `transformers serve` and vLLM take: whole weights, or by --adapter a LoRA adapter for vLLM's --enable-lora."""

import json
import shlex
from pathlib import Path

from nlpft.errors import ModelError
from nlpft.serving._source import Settings, Source, base_name, chat_template, write_adapter, write_whole

# vLLM reads adapters into room for one of these ranks (vllm/config/lora.py), and refuses what its layers cannot do
# (vllm/lora/peft_helper.py).
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def check(settings: Settings) -> None:
    """Everything it needs is there."""


def write(source: Source, output: Path, settings: Settings) -> list[str]:
    """Whole weights, or the adapter; how to serve them. Raises ModelError for adapters that vLLM cannot serve."""
    chat_template(source)
    if not settings.adapter:
        return [*write_whole(source, output, settings), "transformers serve FOLDER", "vllm serve FOLDER"]
    write_adapter(source, output)
    rank = servable_rank(source)
    words = ["vllm", "serve", base_name(source), "--enable-lora", "--max-lora-rank", str(rank)]
    line = shlex.join([*words, "--lora-modules"])
    # vLLM takes the template of the base, whatever lies beside an adapter.
    return [f"{line} {shlex.quote(source.label)}=FOLDER --chat-template FOLDER/chat_template.jinja"]


def servable_rank(source: Source) -> int:
    """The --max-lora-rank that this adapter needs. Raises ModelError where vLLM cannot serve it."""
    config = json.loads((source.folder / "adapter_config.json").read_text(encoding="utf-8"))
    refused = [
        what
        for what, there in {
            f"is {config.get('peft_type')}, not LoRA": config.get("peft_type") != "LORA",
            "is DoRA": config.get("use_dora"),
            "brings whole modules (modules_to_save)": config.get("modules_to_save"),
            "brings token embeddings (trainable_token_indices)": config.get("trainable_token_indices"),
            "brings biases": config.get("bias", "none") != "none" or config.get("lora_bias"),
        }.items()
        if there
    ]
    rank = max([config.get("r") or 0, *(config.get("rank_pattern") or {}).values()])
    fitting = [known for known in RANKS if known >= rank]
    if not fitting:
        refused.append(f"has rank {rank}, more than {RANKS[-1]}")
    if refused:
        raise ModelError(
            f"{source.name}: vLLM cannot serve this adapter, which {', '.join(refused)}; leave --adapter out to merge"
        )
    return fitting[0]
