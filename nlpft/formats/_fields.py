"""What every format checks of a raw record's fields."""

from typing import Any

from nlpft.errors import RowRejected


def text(value: Any, key: str) -> str:
    """`value` if it is text; raises RowRejected naming `key` otherwise."""
    if not isinstance(value, str):
        raise RowRejected("not text", f"{key} is {'null' if value is None else type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowRejected(
            "not valid Unicode", f"{key} holds half a surrogate pair at character {error.start}"
        ) from None
    return value
