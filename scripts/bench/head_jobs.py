"""Labelled corpora of the folder that bench_heads.py is given, as rows: {"text", "label"}, or {"tokens", "tags"}."""

import csv
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]
WNUT = "tagging/wnut17/CONLL-format/data"


class Job(NamedTuple):
    """A corpus, and what is learnt on it."""

    load: Callable[[Path], tuple[list[Row], list[Row]]]  # rows to train on, and to test on
    recipe: str  # classify or tag


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")


def label_first(train: str, test: str) -> Callable[[Path], tuple[list[Row], list[Row]]]:
    """Lines of a label, a blank and the text."""

    def rows(path: Path) -> list[Row]:
        parts = [line.partition(" ") for line in lines(path)]
        return [{"text": text.strip(), "label": label.partition(":")[0]} for label, _, text in parts]

    return lambda data: (rows(data / train), rows(data / test))


def ag_news(data: Path) -> tuple[list[Row], list[Row]]:
    with (data / "classification/ag_news_test.csv").open(encoding="utf-8") as file:
        return cut([{"text": f"{title} {text}", "label": label} for label, title, text in csv.reader(file)])


def sms(data: Path) -> tuple[list[Row], list[Row]]:
    parts = [line.partition("\t") for line in lines(data / "classification/sms.tsv")]
    return cut([{"text": text, "label": label} for label, _, text in parts])


def cut(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """A fifth of the rows, drawn once for all, to test on."""
    rows = random.Random(0).sample(rows, len(rows))
    return rows[len(rows) // 5 :], rows[: len(rows) // 5]


def columns(train: str, test: str) -> Callable[[Path], tuple[list[Row], list[Row]]]:
    """A word and its tag on a line, a blank line behind each sentence."""

    def rows(path: Path) -> list[Row]:
        blocks = [
            block.split("\n") for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")) if block.strip()
        ]
        pairs = [[line.split("\t") for line in block if "\t" in line] for block in blocks]
        return [{"tokens": [p[0] for p in found], "tags": [p[-1].strip() for p in found]} for found in pairs if found]

    return lambda data: (rows(data / train), rows(data / test))


def snips(data: Path, slots: bool) -> tuple[list[Row], list[Row]]:
    def rows(split: str) -> list[Row]:
        texts, tags, labels = (lines(data / "tagging/snips" / split / name) for name in ("seq.in", "seq.out", "label"))
        if slots:
            return [{"tokens": x.split(), "tags": t.split()} for x, t in zip(texts, tags, strict=True)]
        return [{"text": x.strip(), "label": y.strip()} for x, y in zip(texts, labels, strict=True)]

    return rows("train"), rows("test")


JOBS = {
    "sst2": Job(label_first("classification/stsa.binary.train", "classification/stsa.binary.test"), "classify"),
    "trec": Job(label_first("classification/TREC.train.all", "classification/TREC.test.all"), "classify"),
    "agnews": Job(ag_news, "classify"),
    "sms": Job(sms, "classify"),
    "snips": Job(lambda data: snips(data, slots=False), "classify"),
    "snips-slots": Job(lambda data: snips(data, slots=True), "tag"),
    "wnut17": Job(columns(f"{WNUT}/train/wnut17train.conll", f"{WNUT}/test/emerging.test.annotated"), "tag"),
    "crossner-ai": Job(columns("tagging/crossner/ai/train.txt", "tagging/crossner/ai/test.txt"), "tag"),
}


def write(rows: list[Row], path: Path) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
