"""A mask or id that is wrong by one token is found, in whichever row and at whichever edge."""

import numpy as np
import pytest

from nlpft.data.prove import LOST_BYTES, WRONG_MASK, WRONG_TEXT, unproven
from nlpft.data.tokenize import Planner, encode
from nlpft.data.tokenizer import TextTokenizer
from nlpft.types import IGNORE, Message

TURNS = [("user", "Hello there"), ("assistant", "word é🙂 reply"), ("user", "12 again?"), ("assistant", "  answer\n")]
CHAT = [Message(role, text) for role, text in TURNS]
ROWS = [CHAT[:2], CHAT, [Message("system", "word"), *CHAT], [*CHAT[:1], Message("assistant", "<|im_end|> answer")]]


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return TextTokenizer(tiny_folder)


@pytest.fixture(scope="module")
def rows(tokenizer):
    planner = Planner(tokenizer.chat_template(), tokenizer)
    return [planner.row(messages) for messages in ROWS]


@pytest.fixture(scope="module")
def tokens(rows, tokenizer):
    return encode(rows, tokenizer)


def row_of(tokens, place: int) -> int:
    return int(np.searchsorted(tokens.offsets, place, "right") - 1)


def edges(tokens) -> list[tuple[int, int]]:
    """(first, last) token of every learnt run."""
    learnt = np.concatenate(([False], tokens.labels != IGNORE, [False]))
    changes = np.flatnonzero(learnt[1:] != learnt[:-1])
    return list(zip(changes[::2].tolist(), (changes[1::2] - 1).tolist(), strict=True))


def test_what_is_right_is_proven(tokens, rows, tokenizer):
    assert unproven(tokens, rows, tokenizer) == {}


def test_there_are_edges_to_break(tokens):
    assert len(edges(tokens)) == 1 + 2 + 2 + 1


@pytest.mark.parametrize("shift", ["first too early", "first too late", "last too early", "last too late"])
def test_a_mask_that_is_off_by_one_token_is_found(tokens, rows, tokenizer, shift):
    for first, last in edges(tokens):
        labels = tokens.labels.copy()
        place = {
            "first too early": first - 1,
            "first too late": first,
            "last too early": last,
            "last too late": last + 1,
        }
        at = place[shift]
        labels[at] = tokens.ids[at] if labels[at] == IGNORE else IGNORE
        found = unproven(tokens._replace(labels=labels), rows, tokenizer)
        assert found == {row_of(tokens, at): WRONG_MASK}


def test_a_label_that_is_another_token_is_found(tokens, rows, tokenizer):
    first, _ = edges(tokens)[0]
    labels = tokens.labels.copy()
    labels[first] += 1
    assert unproven(tokens._replace(labels=labels), rows, tokenizer) == {0: WRONG_MASK}


def test_any_other_id_is_found(tokens, rows, tokenizer):
    draw = np.random.default_rng(0)
    for at in draw.choice(len(tokens.ids), 40, replace=False).tolist():
        ids = tokens.ids.copy()
        ids[at] = (ids[at] + 1) % 400
        labels = np.where(tokens.labels == IGNORE, IGNORE, ids).astype(np.int32)
        assert row_of(tokens, at) in unproven(tokens._replace(ids=ids, labels=labels), rows, tokenizer)


def test_a_control_token_in_place_of_text_that_spells_it_is_found(tokenizer, rows, tokens):
    """The decoded text is the same: only the count of control tokens tells."""
    end = tokenizer.special["<|im_end|>"]
    ids = tokenizer.encode(["<|im_end|>"]).ids
    at = next(i for i in range(len(tokens.ids)) if (tokens.ids[i : i + len(ids)] == ids).all() and len(ids) > 1)
    forged = np.concatenate([tokens.ids[:at], [end], tokens.ids[at + len(ids) :]]).astype(np.int32)
    labels = np.concatenate([tokens.labels[:at], [end], tokens.labels[at + len(ids) :]]).astype(np.int32)
    offsets = tokens.offsets - np.where(tokens.offsets > at, len(ids) - 1, 0)
    found = unproven(tokens._replace(ids=forged, labels=labels, offsets=offsets), rows, tokenizer)
    assert found == {3: WRONG_MASK}


def test_a_lost_token_is_found(tokens, rows, tokenizer):
    offsets = tokens.offsets - (tokens.offsets > 5)
    cut = tokens._replace(ids=np.delete(tokens.ids, 5), labels=np.delete(tokens.labels, 5), offsets=offsets)
    assert unproven(cut, rows, tokenizer) == {0: WRONG_TEXT}


def test_rows_are_not_taken_for_one_another(tokens, rows, tokenizer):
    assert set(unproven(tokens, [rows[1], rows[0], *rows[2:]], tokenizer)) == {0, 1}


def test_bytes_that_the_vocabulary_lacks_are_told_from_errors(tokenizer, tmp_path, tiny_folder):
    import json

    spec = json.loads((tiny_folder / "tokenizer.json").read_text())
    # The characters that stand for the bytes 0x04 and 0x13: ids stay where they are, under names that no text has.
    names = {"Ą": "lacking one", "ē": "lacking two"}
    spec["model"]["vocab"] = {names.get(word, word): i for word, i in spec["model"]["vocab"].items()}
    for file in tiny_folder.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "chat_template.jinja").write_text((tiny_folder / "chat_template.jinja").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    lacking = TextTokenizer(tmp_path)
    assert lacking.vocabulary.lacking == b"\x04\x13"
    planner = Planner(lacking.chat_template(), lacking)
    texts = ["a\x04b", "plain", "\x13"]
    rows = [planner.row([Message("user", "q"), Message("assistant", text)]) for text in texts]
    assert unproven(encode(rows, lacking), rows, lacking) == {0: LOST_BYTES, 2: LOST_BYTES}
