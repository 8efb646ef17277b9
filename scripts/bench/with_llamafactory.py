"""LLaMA-Factory's preparation of chats for supervised fine-tuning: read, template, tokenize, mask, pack ("neat packing").

    python with_llamafactory.py chats.jsonl --model FOLDER --out FOLDER [--workers 2] [--max_length 4096]

A line of the file is {"messages": [{"role", "content"}, ...]}. Prints the dataset's Arrow files as JSON.
"""

import importlib.machinery
import importlib.util
import json
import os
import sys
from types import ModuleType

import job

TEMPLATES = {"<|start_header_id|>": "llama3", "<|im_start|>": "qwen"}  # by the special token that they need
ROLES = {"role_tag": "role", "content_tag": "content", "user_tag": "user"}
ROLES |= {"assistant_tag": "assistant", "system_tag": "system"}


def stand_in(*names: str) -> None:
    """Empty modules in place of those that are imported but that text does not need, where they are not installed."""
    from transformers.utils import is_torchvision_available

    is_torchvision_available()  # remembers its answer, which the empty module would belie
    for name in names:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)


def settings(task: job.Job) -> dict:
    """LLaMA-Factory's own arguments; the system turn of conversations without one is the model's template's."""
    chat = job.Chat.of(task.model)
    entry = {"file_name": str(task.file), "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": ROLES}
    (task.out / "dataset_info.json").write_text(json.dumps({"chats": entry}))
    named = {"dataset": "chats", "dataset_dir": str(task.out), "output_dir": str(task.out / "run")}
    shape = {"cutoff_len": task.max_length, "packing": True, "neat_packing": True}
    kind = {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
    }
    prepared = {"preprocessing_num_workers": task.workers, "overwrite_cache": True}
    template = {"template": chat.choose(TEMPLATES), "default_system": chat.system}
    return {"model_name_or_path": str(task.model), **named, **shape, **kind, **prepared, **template}


def main() -> None:
    task = job.parse(__doc__)
    os.environ["DISABLE_VERSION_CHECK"] = "1"  # it refuses current versions of transformers, which work
    stand_in("torchvision", "torchaudio", "av")
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    model, data, training, _, _ = get_train_args(settings(task))
    parts = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(parts["tokenizer"], data)
    job.done(get_dataset(template, model, data, training, stage="sft", **parts)["train_dataset"])


if __name__ == "__main__":
    main()
