"""What an item of an evaluation asked and what a model answered, as text for people. Loads no torch.

lm-eval logs for each item the requests (`arguments`) and what came back (`resps`): a text, or for each of the given answers
[log-likelihood, whether it is the greedy one].
"""

from typing import Any

from nlpft.evaluation.items import Pair, Row

LONGEST = 1_200  # characters of a text that is shown
PER_LETTER = "acc_norm"  # the metric by which the given answers are ranked per letter


def prompt(row: Row) -> list[tuple[str, str]]:
    """What a model was asked, as (role, text)."""
    doc = row.get("doc")
    if messages := isinstance(doc, dict) and doc.get("messages"):
        return [(message["role"], clip(message["content"])) for message in messages]
    requests = _requests(row)
    return [("prompt", clip(requests[0][0] if requests else "", end=True))]  # after examples, the question stands last


def source(row: Row) -> str:
    """Where an item is from: file and row, or task and number."""
    doc = row.get("doc")
    said = doc.get("source") if isinstance(doc, dict) else None
    return str(said or f"{row['task']} item {row['doc_id']}")


def written(row: Row) -> str | None:
    """The text a model wrote for an item; None where it scored given answers by their log-likelihood."""
    value = row.get("resps") or row.get("filtered_resps")
    while isinstance(value, list) and value:
        if _is_score(value):
            return None
        value = value[0]
    return value if isinstance(value, str) else None


def chosen(row: Row, metric: str) -> str | None:
    """The given answer that a model finds most likely, per letter where `metric` says so; None where it chose from none."""
    scores = [_score(cell) for cell in row.get("resps") or ()]
    options = _options(row)
    if len(scores) < 2 or len(options) != len(scores) or None in scores:
        return None
    letters = [max(1, len(text.strip())) if metric == PER_LETTER else 1 for text in options]
    ranked = [(score or 0.0) / n for score, n in zip(scores, letters, strict=True)]
    return options[ranked.index(max(ranked))].strip()


def answer(row: Row, metric: str) -> str | None:
    """What a model wrote or chose; None where it did neither."""
    text = written(row)
    return chosen(row, metric) if text is None else text


def expected(row: Row) -> str:
    """The reference answer; of given answers the text, where lm-eval logs its number."""
    options, target = _options(row), str(row.get("target"))
    if len(options) > 1 and target.isdigit() and int(target) < len(options):
        return clip(options[int(target)].strip())
    return clip(target)


def marks(pair: Pair, metric: str, binary: bool) -> list[str]:
    """How either answer scores, in words; "" where an item has no score of its own, as in a metric of the whole corpus."""
    scores = [_own(row, metric) for row in pair]
    if None in scores:
        return ["", ""]
    return [("right" if score else "wrong") if binary else f"{metric} {score:.3f}" for score in scores]


def _own(row: Row, metric: str) -> float | None:
    """An item's own score; a loss in nats per token."""
    if metric == "loss" and "loss_sum" in row:
        return float(row["loss_sum"]) / max(1, row["tokens"])
    value = row.get(metric)
    return float(value) if isinstance(value, int | float) else None


def clip(text: str, end: bool = False) -> str:
    """`text`, or so much of its beginning (`end`: of its end) as is shown."""
    if len(text) <= LONGEST:
        return text
    left = f"[{len(text) - LONGEST:,} more characters]"
    return f"{left} {text[-LONGEST:]}" if end else f"{text[:LONGEST]} {left}"


def _options(row: Row) -> list[str]:
    """The given answers; where they stand in the contexts (WinoGrande), those."""
    requests = _requests(row)
    return [text for _, text in requests] if len({text for _, text in requests}) > 1 else [text for text, _ in requests]


def _requests(row: Row) -> list[tuple[str, str]]:
    """(context, continuation) of each request for an item, as lm-eval logs them: lists, or dicts of gen_args_0 and arg_0."""
    requests = row.get("arguments") or ()
    found = []
    for request in requests.values() if isinstance(requests, dict) else requests:
        parts = list(request.values()) if isinstance(request, dict) else request
        parts = [parts] if isinstance(parts, str) else list(parts)
        if parts:
            found.append((str(parts[0]), str(parts[1]) if len(parts) > 1 and isinstance(parts[1], str) else ""))
    return found


def _is_score(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and str(value[1]) in ("True", "False")


def _score(cell: Any) -> float | None:
    """The log-likelihood in what came back for one request: [[value, greedy]], [value, greedy], numbers perhaps as text."""
    while isinstance(cell, list | tuple) and cell and not _is_score(cell):
        cell = cell[0]
    try:
        return float(cell[0]) if _is_score(cell) else None
    except (ValueError, TypeError):  # null where it was no finite number
        return None
