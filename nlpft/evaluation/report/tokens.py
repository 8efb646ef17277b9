"""A few rows that a run was trained on, token by token: what it learnt to write is marked."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from nlpft.data import store, view
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import UserError
from nlpft.evaluation.report.facts import Run

ROWS = 3
HEAD, TAIL = 400, 100  # tokens of a row that are shown, from its beginning and its end


class Shown(NamedTuple):
    """A row on the page."""

    row: view.Row
    pieces: list[view.Piece]  # its tokens, without those left out
    left_out: int  # tokens
    head: int  # tokens before those


def shown(table: pa.Table, number: int, tokenizer: TextTokenizer, head: int, tail: int) -> Shown:
    """Row `number`'s tokens; of a long one `head` from its beginning and `tail` from its end.

    Raises ModelError as `view.check` does.
    """
    row = view.row(table, number)
    view.check(row, tokenizer)
    left_out = max(0, len(row.ids) - head - tail)
    if not left_out:
        return Shown(row, view.tokens(row, tokenizer), 0, head)
    end = len(row.ids) - tail
    first = view.tokens(row._replace(ids=row.ids[:head], learnt=row.learnt[:head]), tokenizer)
    last = view.tokens(row._replace(ids=row.ids[end:], learnt=row.learnt[end:]), tokenizer)
    return Shown(row, [*first, *(piece._replace(start=piece.start + end) for piece in last)], left_out, head)


def rows(run: Run) -> tuple[list[Shown], str]:
    """The first ROWS rows of the run's training data, or none and the reason why they cannot be shown."""
    folder = run.data.get("train", {}).get("folder")
    if not folder:
        return [], "the run does not say what it was trained on"
    try:
        table, tokenizer = store.read(Path(folder)), TextTokenizer(run.folder.model)
        return [shown(table, i, tokenizer, HEAD, TAIL) for i in range(min(ROWS, table.num_rows))], ""
    except UserError as error:
        return [], str(error)
