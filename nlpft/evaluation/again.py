"""A call that left tasks behind: what it asked is noted beside its kept answers, and the same call tries those tasks again."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from nlpft.files import parts_folder

KEY = "answers"  # of the folder of parts, whatever is asked: an answer is found again by its question
CALL = "call.json"
HOW = ("output", "overwrite", "batch_size")  # settings that do not change what is asked


def call(config: Any) -> dict[str, Any]:
    """What the settings of `nlpft eval` ask for, as JSON reads it back; how it is computed is left out."""
    found = dataclasses.asdict(config)
    found["harness"] = {name: value for name, value in found["harness"].items() if name not in HOW}
    return json.loads(json.dumps({name: value for name, value in found.items() if name not in HOW}, default=str))


def goes_on(output: Path, asked: dict[str, Any]) -> bool:
    """Whether the evaluation in `output` is of the call `asked` (of `call`), and lacks tasks that failed."""
    path = parts_folder(output, KEY) / CALL
    try:
        return json.loads(path.read_text(encoding="utf-8")) == asked
    except (OSError, ValueError):
        return False


def note(parts: Path, asked: dict[str, Any], failed: bool) -> None:
    """Say in the folder of kept answers that tasks of the call `asked` failed, or that none did."""
    if failed:
        (parts / CALL).write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
    else:
        (parts / CALL).unlink(missing_ok=True)
