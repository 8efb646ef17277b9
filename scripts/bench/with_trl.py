"""TRL's preparation of chats for supervised fine-tuning: read, render, tokenize, mask, pack (best fit decreasing).

    python with_trl.py chats.jsonl --model FOLDER --out FOLDER [--workers 2] [--max_length 4096]

A line of the file is {"messages": [{"role", "content"}, ...]}. Prints the dataset's Arrow files as JSON.
"""

import json

import job


def marked(chat: job.Chat) -> str:
    """The model's template with `{% generation %}` around what is learnt: TRL masks by nothing else."""
    header, _, rest = chat.turn("assistant", "\0").partition("\0")
    answer = "{% generation %}{{ message['content'] }}" + literal(chat.end) + "{% endgeneration %}"
    learnt = literal(header) + answer + literal(rest.removeprefix(chat.end))
    before, between, after = chat.turn("\0", "\0").split("\0")
    other = literal(before) + "{{ message['role'] }}" + literal(between) + "{{ message['content'] }}" + literal(after)
    loop = "{% if message['role'] == 'assistant' %}" + learnt + "{% else %}" + other + "{% endif %}"
    system = literal(chat.turn("system", chat.system)) if chat.system else ""
    first = "{% if messages[0]['role'] != 'system' %}" + system + "{% endif %}"
    return "{{ bos_token or '' }}" * chat.bos + first + "{% for message in messages %}" + loop + "{% endfor %}"


def literal(text: str) -> str:
    """`text` as an expression: a newline that stood behind a block would be dropped."""
    return "{{ " + json.dumps(text) + " }}"


def tiny_model(tokenizer):
    """A model of no consequence: the trainer wants one before it prepares the data."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    heads = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 8, "intermediate_size": 8}
    return AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(tokenizer), **heads))


def main() -> None:
    task = job.parse(__doc__)
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(task.model)
    tokenizer.chat_template = marked(job.Chat.of(task.model))
    workers = task.workers if task.workers > 1 else None
    shape = {"max_length": task.max_length, "packing": True, "packing_strategy": "bfd"}
    kind = {"assistant_only_loss": True, "report_to": "none", "use_cpu": True, "bf16": False}
    chats = load_dataset("json", data_files=str(task.file), split="train", num_proc=workers)
    config = SFTConfig(str(task.out / "run"), dataset_num_proc=workers, **shape, **kind)
    trainer = SFTTrainer(tiny_model(tokenizer), config, train_dataset=chats, processing_class=tokenizer)
    job.done(trainer.train_dataset)


if __name__ == "__main__":
    main()
