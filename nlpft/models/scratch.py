"""A model that begins from a configuration: random weights beside a tokenizer, in a folder as pretrained ones lie in."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from nlpft.errors import ConfigError, ModelError
from nlpft.files import locked, whole_folder
from nlpft.models import kinds

IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")


def read_config(path: Path) -> Any:
    """The transformers configuration in a JSON file. Raises ModelError where it is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return AutoConfig.for_model(**values)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); --from_config takes a config.json") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{path}: no configuration of a transformers model ({error}); it needs a model_type"
        ) from error


def begin(config: Any, folder: Path, write_tokenizer: Callable[[Path], Any], seed: int, asked: dict[str, Any]) -> Path:
    """Make `folder` a model of `config` with random weights drawn by `seed`, unless it is there already.

    write_tokenizer: writes its tokenizer into a folder. asked: all that decides what it becomes. The vocabulary's size and the
    ids of special tokens are the tokenizer's. Raises ConfigError where a model that was asked for in another way is there.
    """
    facts = {"from_config": config.to_diff_dict(), "seed": seed, **asked}
    with locked(folder):
        if (folder / "nlpft.json").is_file():
            if json.loads((folder / "nlpft.json").read_text(encoding="utf-8")) != json.loads(json.dumps(facts)):
                raise ConfigError(f"{folder}: begun from other settings; choose another output_dir")
            return folder
        with whole_folder(folder) as partial:
            write_tokenizer(partial)
            _fit(config, AutoTokenizer.from_pretrained(partial))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = kinds.KINDS[kinds.of_config(config)].auto.from_config(config)
            model.save_pretrained(partial)
            (partial / "nlpft.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return folder


def copy_tokenizer(source: Path, folder: Path) -> None:
    """The tokenizer's files of another model. Raises ModelError where there are none."""
    if not (source / "tokenizer.json").is_file():
        raise ModelError(f"{source}: no tokenizer.json; set tokenizer to a model's folder, or train")
    for path in source.iterdir():
        if path.name.startswith(("tokenizer", "special_tokens", "vocab", "merges", "chat_template")):
            shutil.copy(path, folder)


def _fit(config: Any, tokenizer: Any) -> None:
    """Make `config` that of a model with this vocabulary."""
    config.vocab_size = len(tokenizer)
    for name in IDS:
        if getattr(tokenizer, name, None) is not None or getattr(config, name, None) is not None:
            setattr(config, name, getattr(tokenizer, name, None))
    if getattr(config, "is_encoder_decoder", False):
        config.decoder_start_token_id = tokenizer.pad_token_id
        config.forced_eos_token_id = None
