"""Adapters of the tiny model, made in-process, saved as nlpft saves them."""

import json
from pathlib import Path

import tiny
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from nlpft.templates import chatml
from nlpft.templates._chat import ChatTemplate


def save_adapter(folder: Path, base: Path, strength: float, template: str = chatml.CHAT_TEMPLATE) -> Path:
    """An adapter as nlpft saves it. strength: of its second factor; at 0 it changes nothing."""
    torch.manual_seed(3)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=strength) if strength else torch.nn.init.zeros_(weight)
    model.save_pretrained(folder, save_embedding_layers=False)
    tiny.save_tokenizer(folder, template)
    (folder / "nlpft.json").write_text(json.dumps({"template_hash": ChatTemplate(template, []).hash}))
    return folder
