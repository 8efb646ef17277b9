"""What decides how labelled files become a dataset, as options of `nlpft label` (its Config inherits them)."""

from dataclasses import dataclass
from typing import Literal

Task = Literal["classify", "tag"]
Format = Literal["auto", "json", "csv", "tsv", "lines", "conll", "parallel"]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True)
class LabelColumns:
    """The user's names of columns, in place of the known ones. Columns of files without names are called 0, 1, ..."""

    text: tuple[str, ...] = ()
    """Text; several are joined by a blank (known: text, sentence, review, content, message, ...)."""
    pair: str | None = None
    """Second text (known: sentence2 beside sentence1, hypothesis beside premise, question2 beside question1, ...)."""
    label: tuple[str, ...] = ()
    """Label; several columns of 0 and 1 make rows with several labels (known: label, class, category, target, intent, ...)."""
    words: str | None = None
    """Words of a sentence, a list or text parted by blanks (known: tokens, words); in CoNLL columns the first."""
    tags: str | None = None
    """Tags of the words (known: tags, ner_tags, labels, slots, ...); in CoNLL columns the last."""


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What decides how rows become a dataset."""

    task: Literal["auto", "classify", "tag"] = "auto"
    """classify: a label for each text; tag: a tag for each word; auto: tag where the files have words with tags."""
    format: Format = "auto"
    """How the files are written; auto: told by their content. lines: a label, a blank, the text; conll: a word and its tag
    on a line, a blank line behind each sentence; parallel: a folder with seq.in, seq.out, label."""
    encoding: str = "utf-8"
    """Of the files, such as latin-1."""
    columns: LabelColumns = LabelColumns()
    problem_type: Literal["auto"] | ProblemType = "auto"
    """auto: several labels where a row's label is a list, regression where labels are numbers with a fraction."""
    label_separator: str = ""
    """What parts several labels in one column, such as a comma; empty: a row has one."""
    label_names: tuple[str, ...] = ()
    """Names of the labels in the order of their ids; names for labels that are numbers from 0 or 1 (default: the labels of
    the training split, sorted)."""
    unseen: Literal["reject", "error"] = "reject"
    """Rows of other splits whose label the training split does not have: left out and counted, or an error."""
    splits: tuple[str, ...] = ()
    """Splits to draw, as NAME=SHARE (train=0.8 eval=0.1 test=0.1): every label in the same proportion, equal texts together."""
    leak: Literal["report", "drop", "error"] = "report"
    """Texts of the training split that also stand in another one: counted, left out of the training split, or an error."""
    duplicates: Literal["keep", "exact"] = "keep"
    """Leave out rows whose text and label an earlier row of their split has."""
    max_length: int | None = None
    """Longest row in tokens (default: what the model sees); what is longer loses its end, of a pair the longer text's."""
    augment: tuple[Literal["swap", "delete", "insert", "noise"], ...] = ()
    """Edits for changed copies of the training split's rows: words swapped, deleted, punctuation inserted, typing errors."""
    augment_copies: int = 1
    """Changed copies of each row, each with one of the edits."""
    augment_share: float = 0.1
    """Share of the words that an edit changes, above 0 up to 1."""
    seed: int = 0
    """Decides, with the texts, which split a row goes to, and how copies are changed."""
