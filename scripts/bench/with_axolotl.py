"""Axolotl's preparation of chats for supervised fine-tuning: read, render, tokenize, mask, pack.

    python with_axolotl.py chats.jsonl --model FOLDER --out FOLDER [--workers 2] [--max_length 4096]

A line of the file is {"messages": [{"role", "content"}, ...]}. Prints the dataset's Arrow files as JSON. Axolotl packs while it
trains: what is written is tokenized and masked, row by row.
"""

import os
from typing import Any

import job


def settings(task: job.Job) -> dict[str, Any]:
    """Axolotl's own configuration: rows that are too long are cut, as the other suites do, not dropped."""
    data = {"path": str(task.file), "ds_type": "json", "type": "chat_template", "field_messages": "messages"}
    data |= {"message_property_mappings": {"role": "role", "content": "content"}, "roles_to_train": ["assistant"]}
    places = {"output_dir": str(task.out / "run"), "dataset_prepared_path": str(task.out / "prepared")}
    shape = {"sequence_len": task.max_length, "excess_length_strategy": "truncate", "sample_packing": True}
    steps = {"micro_batch_size": 1, "gradient_accumulation_steps": 1, "num_epochs": 1, "learning_rate": 1e-4}
    model = {"base_model": str(task.model), "chat_template": "tokenizer_default", "attn_implementation": "sdpa"}
    return {**model, **places, **shape, **steps, "datasets": [data], "dataset_num_proc": task.workers}


def main() -> None:
    task = job.parse(__doc__)
    os.environ |= {"AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1"}
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets
    from axolotl.utils.dict import DictDefault

    job.done(load_datasets(cfg=load_cfg(DictDefault(settings(task)))).train_dataset)


if __name__ == "__main__":
    main()
