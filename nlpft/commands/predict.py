"""Predict labels, numbers or tags for the rows of a file by a model that recipes/classify.py or tag.py has trained."""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import tyro

from nlpft.data.labelled.options import LabelColumns
from nlpft.errors import ConfigError
from nlpft.files import whole_file
from nlpft.rundir import model_folder

SAID, SURE = "prediction", "probability"


@dataclass(frozen=True)
class Config:
    model: tyro.conf.Positional[str]
    """Run folder, or a folder with a model that has a head of nlpft's."""
    file: tyro.conf.Positional[Path]
    """JSON, JSONL, CSV, TSV, parquet, or lines of text; for tags also CoNLL columns."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File for the rows, in their order, with `prediction` and its probability: .jsonl, .csv, .tsv; for tags also .conll."""
    columns: LabelColumns = field(default_factory=LabelColumns)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights; auto: float32 on the CPU, bfloat16 on a GPU."""
    overwrite: bool = False
    """Replace the output if it is already there."""


def run(config: Config) -> int:
    write = _writer(config.output)
    from nlpft.data.tokenizer import TextTokenizer  # seconds of import, after the settings have been checked
    from nlpft.evaluation import predict
    from nlpft.models.heads import FACTS, saved_task, trained_head
    from nlpft.models.load import device, tokenizer_folder
    from nlpft.models.pretrained import resolve

    name = model_folder(config.model)
    folder = resolve(name)
    task = saved_task(folder)
    if config.output.suffix == ".conll" and task.kind != "tagging":
        raise ConfigError(f"--output {config.output}: columns are for tags; name a .jsonl, .csv or .tsv file")
    rows = predict.asked(config.file, task, config.columns)
    temperature = json.loads((folder / FACTS).read_text(encoding="utf-8")).get("temperature", 1.0)
    model = trained_head(name, config.dtype).to(device())
    answers = predict.predict(model, TextTokenizer(tokenizer_folder(name)), rows, temperature)
    with (
        whole_file(config.output, config.overwrite) as partial,
        (partial / config.output.name).open("w", encoding="utf-8", newline="") as out,
    ):
        write(out, rows, answers, task.labels)
    empty = sum(answer.prediction is None for answer in answers)
    print(f"{len(rows):,} rows -> {config.output}")
    if predict.have_labels(rows):
        print(f"{config.file}: the labels in the file are kept as `label`; the model did not see them", file=sys.stderr)
    if empty:
        print(f"{empty:,} of them without a text: their prediction is empty", file=sys.stderr)
    return 0


def _writer(output: Path) -> Callable[..., None]:
    """What writes a file of that ending. Raises ConfigError where nothing does."""
    known = {".jsonl": _json_lines, ".csv": _table(","), ".tsv": _table("\t"), ".conll": _conll}
    if output.suffix not in known:
        raise ConfigError(f"--output {output}: its ending is one of {', '.join(known)}")
    return known[output.suffix]


def _json_lines(out: TextIO, rows: Sequence[Any], answers: Sequence[Any], labels: Sequence[str]) -> None:
    for row, answer in zip(rows, answers, strict=True):
        found = {SAID: answer.prediction, SURE: answer.probability}
        found |= {"probabilities": answer.probabilities} if answer.probabilities else {}
        out.write(json.dumps({**row.row, **_free(row.row, found)}, ensure_ascii=False, default=str) + "\n")


def _table(delimiter: str) -> Callable[..., None]:
    def write(out: TextIO, rows: Sequence[Any], answers: Sequence[Any], labels: Sequence[str]) -> None:
        own = list(dict.fromkeys(key for row in rows for key in row.row))
        each = [f"p_{label}" for label in labels] if any(a.probabilities for a in answers) else []
        names = _free(own, dict.fromkeys([SAID, SURE, *each]))
        lines = csv.writer(out, delimiter=delimiter, lineterminator="\n")
        lines.writerow([*own, *names])
        for row, answer in zip(rows, answers, strict=True):
            numbers = (answer.probabilities or dict.fromkeys(labels)).values() if each else ()
            lines.writerow(
                map(_cell, [*(row.row.get(key) for key in own), answer.prediction, answer.probability, *numbers])
            )

    return write


def _conll(out: TextIO, rows: Sequence[Any], answers: Sequence[Any], labels: Sequence[str]) -> None:
    for row, answer in zip(rows, answers, strict=True):
        out.writelines(f"{word}\t{tag}\n" for word, tag in zip(row.words, answer.prediction or (), strict=True))
        out.write("\n")


def _free(taken: Any, found: dict[str, Any]) -> dict[str, Any]:
    """`found` under names that are not `taken`: a file that was predicted before keeps what it has."""
    return {f"new_{key}" if key in taken else key: value for key, value in found.items()}


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(f"{x:.6g}" if isinstance(x, float) else str(x) for x in value)
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value
