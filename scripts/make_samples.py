"""Write recipes/samples/: the log of a lending desk, a skill that 135M parameters learn in two minutes on two cores.

A note in plain English becomes one line of five fields: "On Monday Anna took three books." -> borrow|Anna|3|books|Mon

train_sharegpt.json and train_alpaca.jsonl teach it; heldout.json asks for lines that no training row holds, a third of
them with names and things that no training row mentions. All of it is drawn here, from the words below.

    python scripts/make_samples.py [FOLDER]
"""

# ruff: noqa: SIM905  lists of words read better as text
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

FOLDER = Path(__file__).parents[1] / "recipes" / "samples"
SHAREGPT_ROWS, ALPACA_ROWS, HELDOUT_ROWS = 180, 130, 120
EXCHANGES = (1, 1, 2, 1, 1, 3, 1, 1, 2, 1)  # of the training conversations in turn
NEW_WORDS_EVERY = 3  # every so many held-out notes has a name and a thing that training never mentions

SENTENCES = {
    "borrow": (
        "{who} borrowed {count} {item} on {day}.",
        "On {day} {who} borrowed {count} {item}.",
        "{who} took {count} {item} on {day}.",
        "{who} came in on {day} and took {count} {item}.",
    ),
    "return": (
        "{who} returned {count} {item} on {day}.",
        "On {day} {who} returned {count} {item}.",
        "{who} brought back {count} {item} on {day}.",
        "{who} came in on {day} and brought back {count} {item}.",
    ),
    "reserve": (
        "{who} reserved {count} {item} for {day}.",
        "For {day} {who} reserved {count} {item}.",
        "{who} booked {count} {item} for {day}.",
        "{who} called to book {count} {item} for {day}.",
    ),
}
NAMES = (
    "Anna Ben Clara David Emma Frank Grace Henry Irene Jack Kate Leo Maria Oscar Paul Rosa Sam Tina Victor "
    "Alice Bruno Diana Eric Felix Hannah Ivan Julia Karl Linda Martin Oliver Peter Ruth Simon Thomas Laura Adam"
).split()
THINGS = "books cameras bikes keys tents maps games drills lamps chairs radios cables ladders tables boxes".split()
NEW_NAMES = "Carlos Helen Lucas Sarah Walter Robert".split()
NEW_THINGS = "phones ropes bags cups".split()
COUNTS = "two three four five six seven eight nine".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

SYSTEM = "You keep the desk log."
INSTRUCTIONS = ("Write the log line.", "Write this note as a log line.", "Log this note.")


@dataclass(frozen=True)
class Note:
    """One thing that happened at the desk, as words of the sentence that tells it."""

    action: str
    who: str
    count: str
    item: str
    day: str
    sentence: str

    @property
    def line(self) -> str:
        """The record that answers it: action|who|count|item|day."""
        return f"{self.action}|{self.who}|{2 + COUNTS.index(self.count)}|{self.item}|{self.day[:3]}"


def pick(rng: Random, choices: Any) -> Any:
    """One of `choices`; by `random()`, the only method whose numbers Python promises never to change."""
    return choices[int(rng.random() * len(choices))]


def draw(rng: Random, names: list[str], things: list[str]) -> Note:
    """A note of words from `names` and `things`."""
    action = pick(rng, tuple(SENTENCES))
    who, count, item, day = pick(rng, names), pick(rng, COUNTS), pick(rng, things), pick(rng, DAYS)
    sentence = pick(rng, SENTENCES[action]).format(who=who, count=count, item=item, day=day)
    return Note(action, who, count, item, day, sentence)


def notes(rng: Random, taken: set[str], new_words_every: int = 0) -> Iterator[Note]:
    """Endless notes, no line twice and none in `taken`, which they are added to."""
    made = 0
    while True:
        new = new_words_every and made % new_words_every == 0
        note = draw(rng, NEW_NAMES if new else NAMES, NEW_THINGS if new else THINGS)
        if note.line not in taken:
            taken.add(note.line)
            made += 1
            yield note


def sharegpt(identity: str, exchanges: list[Note], system: str = "", instruction: str = "") -> dict[str, Any]:
    """A ShareGPT row: notes by the human, lines by gpt; `instruction` opens the first turn."""
    turns = [{"from": "system", "value": system}] if system else []
    for note in exchanges:
        asked = f"{instruction}\n\n{note.sentence}" if instruction and note is exchanges[0] else note.sentence
        turns += [{"from": "human", "value": asked}, {"from": "gpt", "value": note.line}]
    return {"id": identity, "conversations": turns}


def alpaca(note: Note, instruction: str, with_input: bool, system: str = "") -> dict[str, Any]:
    """An Alpaca row; without input the note is part of the instruction."""
    asked = {"instruction": instruction, "input": note.sentence}
    if not with_input:
        asked = {"instruction": f"{instruction[:-1]}: {note.sentence}"}
    return {**({"system": system} if system else {}), **asked, "output": note.line}


def sharegpt_rows(rng: Random, source: Iterator[Note]) -> list[dict[str, Any]]:
    """Training conversations of one to three exchanges; six in seven have a system turn, the others an instruction."""
    rows = []
    for i in range(SHAREGPT_ROWS):
        exchanges = [next(source) for _ in range(EXCHANGES[i % len(EXCHANGES)])]
        own = {"instruction": pick(rng, INSTRUCTIONS)} if i % 7 == 0 else {"system": SYSTEM}
        rows.append(sharegpt(f"desk-{i + 1:03}", exchanges, **own))
    return rows


def alpaca_rows(rng: Random, source: Iterator[Note]) -> list[dict[str, Any]]:
    """Training instructions; a third without input, half with a system text."""
    return [
        alpaca(next(source), pick(rng, INSTRUCTIONS), with_input=i % 3 > 0, system=SYSTEM if i % 2 else "")
        for i in range(ALPACA_ROWS)
    ]


def heldout_rows(rng: Random, source: Iterator[Note]) -> list[dict[str, Any]]:
    """One question each; half in the ShareGPT rows' way of asking, half in the Alpaca rows'."""
    rows = []
    for i in range(HELDOUT_ROWS):
        own = {"instruction": pick(rng, INSTRUCTIONS)} if i % 2 else {"system": SYSTEM}
        rows.append(sharegpt(f"heldout-{i + 1:03}", [next(source)], **own))
    return rows


def make(folder: Path) -> None:
    """Write the three files into `folder`."""
    rng = Random(7)
    taken: set[str] = set()
    source = notes(rng, taken)
    folder.mkdir(parents=True, exist_ok=True)
    array(folder / "train_sharegpt.json", sharegpt_rows(rng, source))
    lines(folder / "train_alpaca.jsonl", alpaca_rows(rng, source))
    array(folder / "heldout.json", heldout_rows(rng, notes(rng, taken, NEW_WORDS_EVERY)))


def array(path: Path, rows: list[dict[str, Any]]) -> None:
    """A JSON array with a row on each line."""
    path.write_bytes(("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n").encode())


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON lines."""
    path.write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode())


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
