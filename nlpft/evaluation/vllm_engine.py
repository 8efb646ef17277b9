"""Answers written by vLLM (Kwon et al. 2023), where it is installed: for generation on a GPU, many prompts at once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nlpft.errors import ConfigError

MEMORY = 0.6  # share of the GPU that vLLM may take; log-likelihoods are computed beside it


def engine(model: Path, adapter: Path | None, dtype: str) -> Callable[[Any, Sequence[Any]], list[list[int]]]:
    """A writer of greedy answers for `PackedLM`. Raises ConfigError where vLLM is not installed."""
    try:
        import vllm
    except ImportError as error:
        raise ConfigError(
            "harness.engine vllm: vLLM is not installed, or not for this machine; pip install vllm, or leave the engine out"
        ) from error
    settings = {"enable_lora": True, "max_lora_rank": 256} if adapter else {}
    served = vllm.LLM(model=str(model), dtype=dtype, gpu_memory_utilization=MEMORY, **settings)
    request = None
    if adapter:
        from vllm.lora.request import LoRARequest

        request = LoRARequest("adapter", 1, str(adapter))

    def write(language_model: Any, rows: Sequence[Any]) -> list[list[int]]:
        sampling = [
            vllm.SamplingParams(
                temperature=0.0,
                max_tokens=row.limit,
                stop=[text for text in row.until if text],
                include_stop_str_in_output=True,
            )
            for row in rows
        ]
        prompts = [{"prompt_token_ids": row.prompt} for row in rows]
        found = served.generate(prompts, sampling, lora_request=request, use_tqdm=False)
        return [list(answer.outputs[0].token_ids) for answer in found]

    return write
