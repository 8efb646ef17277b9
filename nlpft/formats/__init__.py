"""Corpus formats: what one raw row of a corpus says. One file is one format; it has

matches(record: dict, columns: Columns) -> bool       # does this row have my keys? (for --format auto)
parse(record: dict, columns: Columns, roles: Roles) -> Conversation
write(conversation: Conversation) -> dict             # the same as a row of this format

No row matches two formats: rows with a list of turns belong to those of chats, then `instruction` means Alpaca, and so on.

`parse` gives standard roles, the tools, the row's id and its text as it stands: repairs are made afterwards and elsewhere
(data/repair.py). What it had to choose (another name of a role, `chosen` among two answers) stands in `notes` as fixed phrases.
Both raise RowRejected(reason, detail) where they cannot go on; the reason is a fixed phrase, because reasons are counted, and
`_remedies.py` says what the user can do about each. `write` loses nothing in silence: what its format has no place for is
rejected, and parsing what it wrote gives the same conversation.

`Columns` and `Roles` (`_fields.py`) are the user's own names of keys and roles; where they say nothing the known ones hold.
"""
