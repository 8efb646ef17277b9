"""What decides how the rows of a corpus become a dataset, as options of `nlpft convert` (its Config inherits them)."""

from dataclasses import dataclass
from typing import Literal

from nlpft.data.conversation import Reading
from nlpft.data.select.settings import Selection
from nlpft.data.truncate import Truncation


@dataclass(frozen=True)
class Options(Reading, Truncation, Selection):
    """What decides how rows become a dataset."""

    template: str = "auto"
    """Chat template: the tokenizer's own (auto), a built-in one (`nlpft list templates`), or a .jinja file. Raw text
    (--format text) needs none."""
    max_length: int | None = None
    """Longest row in tokens (default: the model's context)."""
    prove: Literal["all", "sample"] = "all"
    """Rows whose ids and mask are decoded and compared with their text."""
    allow_truncated: bool = False
    """Take the whole rows of a file that ends in the middle of one; otherwise it is an error."""
    workers: int = 0
    """Processes; 0: one for each core. They do not change the result."""

    @property
    def written_by(self) -> str:
        """Name of the template that writes the rows, for `TextTokenizer.chat_template`."""
        return "none" if self.format == "text" and self.template == "auto" else self.template
