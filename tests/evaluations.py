"""Evaluations with chosen values, in memory: what comparisons are tested on."""

from pathlib import Path

from nlpft.evaluation.items import Evaluation


def row(doc_id, metrics, answer="yes", **more):
    """A line of samples_TASK.jsonl."""
    hashes = {"doc_hash": f"d{doc_id}", "prompt_hash": f"p{doc_id}", "target_hash": f"t{doc_id}"}
    said = {"resps": [[answer]], "filtered_resps": [answer], "filter": "none", "target": "yes", "doc": {}, "task": "t"}
    return {"doc_id": doc_id, **hashes, **said, "metrics": list(metrics), **metrics, **more}


def evaluation(label, task="t", higher=True, **values):
    """One task, a metric for each keyword: values [items]."""
    rows = [
        row(i, dict(zip(values, items, strict=True)), answer=f"{label} {i}")
        for i, items in enumerate(zip(*values.values(), strict=True))
    ]
    results = {"higher_is_better": {task: dict.fromkeys(values, higher)}, "nlpft": {"label": label}}
    return Evaluation(Path(label), results, {(task, "none"): {r["doc_id"]: r for r in rows}})
