"""Corpus formats. One file is one format; it has

matches(record: dict) -> bool                  # does this record have my keys? (for --format auto)
parse(record: dict) -> tuple[Message, ...]     # raises RowRejected with a reason where the record is unusable
"""
