"""What a user can do about a row that is not in the dataset, by the reason of its rejection: one home for all of them."""

from nlpft.data import prove, rows
from nlpft.data.labelled._remedies import REMEDIES as OF_LABELS
from nlpft.data.select import contamination, duplicates, route
from nlpft.formats._remedies import REMEDIES as OF_FORMATS
from nlpft.templates._rowwise import NO_TOOLS

TEMPLATE = "choose another --template (`nlpft list templates`, or a .jinja file)"
REPORT = "a fault of nlpft or of the tokenizer's file: please report the model and this row"

REMEDIES = {
    **OF_FORMATS,
    **OF_LABELS,
    # the text of the row
    rows.NOT_JSON: "mend the row where the file was made: quotes, commas, brackets",
    rows.NOT_UTF8: "save the file as UTF-8 (iconv -f latin1 -t utf-8 FILE)",
    rows.DUPLICATE_KEY: "leave one of the two: which one is meant, only you can say",
    rows.OTHER_WIDTH: "give the row as many fields as the table has columns; quote fields that hold the separator",
    # how long it is, and its tokens
    "too long": "raise --max_length, or let turns go and texts be cut: --too_long newest --long_turn any",
    prove.LOST_BYTES: "these control bytes have no token in this model: delete them, or take --repairs.lost_bytes",
    prove.WRONG_TEXT: REPORT,
    prove.WRONG_MASK: REPORT,
    # the chat template
    "refused by the chat template": f"change the row as the template's message says, or {TEMPLATE}",
    "template rewrites history": f"--learn last (only the last answer is shown as it was asked for), or {TEMPLATE}",
    "template drops or repeats a turn": TEMPLATE,
    "template changes a text": TEMPLATE,
    "template has no prompt for an answer": TEMPLATE,
    NO_TOOLS: f"--tools text, or {TEMPLATE}",
    "private-use characters": "delete U+E000 and U+E001 from the row: nlpft marks texts by them while it renders",
    "too many turns": f"split the conversation, or {TEMPLATE}",
    # what was asked to be left out
    duplicates.SAME: "nothing: an earlier row says the same (--duplicates keep takes both)",
    duplicates.NEAR: "nothing: an earlier row says nearly the same (--duplicates exact takes both)",
    contamination.REASON: "nothing: it would teach the test (--contamination_share allows some overlap)",
    route.NO_COPY: "nothing: --weights takes only a share of this file's rows",
}


def remedy(reason: str) -> str:
    """What to do about rows that are rejected for this reason; '' for a reason of a user's own format."""
    return REMEDIES.get(reason, "")
