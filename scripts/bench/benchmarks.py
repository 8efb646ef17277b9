"""lm-eval tasks over a folder of real benchmark files, on which scores must agree: configurations that need no network."""

from pathlib import Path
from typing import Any

ACCURACY = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
PERPLEXITY = [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")]


def tasks(folder: Path) -> dict[str, dict[str, Any]]:
    """Tasks by name. folder: as issue 1's corpora lie, with benchmarks/ and text/ in it."""
    files = folder / "benchmarks"
    made = {
        "hellaswag": _choices(
            files / "hellaswag_val_1000.jsonl", "{{activity_label}}: {{ctx}}", "{{endings}}", "{{label|int}}"
        ),
        "piqa": _choices(files / "piqa_mosaic.jsonl", "{{query}}Answer:", "{{choices}}", "{{gold}}"),
        "boolq": _choices(files / "boolq_mosaic.jsonl", "{{query}}\nAnswer:", "{{choices}}", "{{gold}}"),
        "sciq": _choices(
            files / "sciq/none/validation/data-00000-of-00001.arrow",
            "{{support.lstrip()}}\nQuestion: {{question}}\nAnswer:",
            "{{[distractor1, distractor2, distractor3, correct_answer]}}",
            "3",
        ),
        "lambada": _scored(files / "lambada_mosaic.jsonl"),
        "wikitext": _rolling(folder / "text/wikitext2_valid.txt"),
    }
    for subject in ("anatomy", "college_mathematics"):
        made[f"mmlu_{subject}"] = _mmlu(files / "mmlu" / subject)
    for file in sorted(files.glob("blimp_*.jsonl")):
        made[file.stem] = {
            **_choices(file, "", "{{[sentence_good, sentence_bad]}}", "0"),
            "target_delimiter": "",
        }
    return {name: {"task": name, **task} for name, task in made.items()}


def _data(test: Path, **more: str) -> dict[str, Any]:
    kind = {".jsonl": "json", ".arrow": "arrow", ".txt": "text"}[test.suffix]
    return {"dataset_path": kind, "dataset_kwargs": {"data_files": {"test": str(test), **more}}, "test_split": "test"}


def _choices(file: Path, text: str, choices: str, gold: str) -> dict[str, Any]:
    asked = {"doc_to_text": text, "doc_to_choice": choices, "doc_to_target": gold}
    return {**_data(file), **asked, "output_type": "multiple_choice", "metric_list": ACCURACY}


def _scored(file: Path) -> dict[str, Any]:
    asked = {"doc_to_text": "{{context}}", "doc_to_target": "{{continuation}}"}
    metrics = [*ACCURACY, {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}]
    return {**_data(file), **asked, "output_type": "loglikelihood", "metric_list": metrics}


def _rolling(file: Path) -> dict[str, Any]:
    data = _data(file)
    data["dataset_kwargs"]["sample_by"] = "document"
    asked = {"doc_to_text": "", "doc_to_target": "{{text[:30000]}}"}
    return {**data, **asked, "output_type": "loglikelihood_rolling", "metric_list": PERPLEXITY}


def _mmlu(folder: Path) -> dict[str, Any]:
    """Five-shot with lm-eval's wording: every question begins with the same solved ones."""
    file = "data-00000-of-00001.arrow"
    listed = "".join(f"\n{letter}. {{{{choices[{i}]}}}}" for i, letter in enumerate("ABCD"))
    return {
        **_data(folder / "test" / file, dev=str(folder / "dev" / file)),
        "fewshot_split": "dev",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": 5,
        "doc_to_text": "{{question.strip()}}" + listed + "\nAnswer:",
        "doc_to_choice": ["A", "B", "C", "D"],
        "doc_to_target": "answer",
        "output_type": "multiple_choice",
        "metric_list": ACCURACY,
    }
