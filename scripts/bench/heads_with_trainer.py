"""One run of a plain transformers.Trainer script, as its documentation writes them, for bench_heads.py; prints JSON."""

import argparse
import json
import time

from datasets import Dataset, disable_progress_bars
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from nlpft import plugins


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("recipe", "model", "train", "test", "output", "seed", "epochs", "batch", "lr"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    begun = time.process_time()
    disable_progress_bars()
    tag = args.recipe == "tag"
    train, test = (Dataset.from_list(rows(path)) for path in (args.train, args.test))
    names = sorted({label for row in train["tags" if tag else "label"] for label in (row if tag else [row])})
    ids = {name: i for i, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(args.model)

    def texts(rows):
        return {**tokenizer(rows["text"], truncation=True), "labels": [ids[label] for label in rows["label"]]}

    def words(rows):
        made = tokenizer(rows["tokens"], truncation=True, is_split_into_words=True)
        made["labels"] = [first_pieces(made.word_ids(i), row) for i, row in enumerate(rows["tags"])]
        return made

    def first_pieces(places, row):
        return [
            -100 if w is None or w == p else ids.get(row[w], -100)
            for w, p in zip(places, [None, *places[:-1]], strict=True)
        ]

    train, test = (
        part.map(words if tag else texts, batched=True, remove_columns=part.column_names) for part in (train, test)
    )
    cls = AutoModelForTokenClassification if tag else AutoModelForSequenceClassification
    model = cls.from_pretrained(args.model, num_labels=len(names))
    settings = TrainingArguments(
        args.output, num_train_epochs=float(args.epochs), per_device_train_batch_size=int(args.batch),
        per_device_eval_batch_size=int(args.batch), learning_rate=float(args.lr), weight_decay=0.01, warmup_steps=0.1,
        seed=int(args.seed), save_strategy="no", logging_strategy="no", report_to=[], use_cpu=True,
        bf16=args.bf16, disable_tqdm=True,
    )  # fmt: skip
    collator = (DataCollatorForTokenClassification if tag else DataCollatorWithPadding)(tokenizer)
    trainer = Trainer(model, settings, train_dataset=train, data_collator=collator)
    clock, computing = time.perf_counter(), time.process_time()
    trainer.train()
    took = {"seconds": time.perf_counter() - clock, "computing": time.process_time() - computing}
    found = trainer.predict(test)
    scores = spans(found, names) if tag else accuracy(found)
    print(json.dumps({**took, "whole": time.process_time() - begun, "scores": scores}))


def rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def accuracy(found):
    return {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}


def spans(found, names):
    """Entity F1, as recipes/tag.py scores it."""
    said, true = found.predictions.argmax(2), found.label_ids
    rows = [
        [(names[s], names[t]) for s, t in zip(a, b, strict=True) if t >= 0] for a, b in zip(said, true, strict=True)
    ]
    metric = plugins.load("metrics", "seqeval").Metric()
    values = metric.compute(
        predictions=[[s for s, _ in row] for row in rows], references=[[t for _, t in row] for row in rows]
    )
    return {"f1": values["overall_f1"]}


if __name__ == "__main__":
    main()
