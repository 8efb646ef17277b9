"""Content keys, splits, weights: content and seed decide, and what a change of settings moves."""

import pytest

from nlpft.data.select.keys import content_key
from nlpft.data.select.settings import Selection, check
from nlpft.data.select.splits import Split, copies, parse_splits, split_of, weights
from nlpft.errors import ConfigError
from nlpft.types import Conversation, Message

KEYS = [content_key(Conversation((Message("user", f"question {n}"),))) for n in range(4_000)]


def chat(*turns: tuple[str, str], **more) -> Conversation:
    return Conversation(tuple(Message(role, text) for role, text in turns), **more)


def test_equal_content_has_an_equal_key_whatever_its_name_and_place():
    first = chat(("user", "q"), ("assistant", "a"), id="1", source="a.json:1", notes=("merged",))
    second = Conversation(
        (Message("user", "q", train=False), Message("assistant", "a", train=True)), id="no. 2", source="b:9"
    )
    assert content_key(first) == content_key(second)


CALL = {"type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_different_content_has_different_keys():
    rows = [
        chat(("user", "q"), ("assistant", "a")),
        chat(("assistant", "q"), ("user", "a")),
        chat(("user", "a"), ("assistant", "q")),
        chat(("user", "qa"), ("assistant", "")),
        chat(("user", ""), ("assistant", "qa")),
        chat(("user", "q"), ("assistant", "a"), ("user", "")),
        chat(("user", "q"), ("assistant", "a"), tools=(CALL,)),
        Conversation((Message("user", "q"), Message("assistant", "a", tool_calls=(CALL,)))),
        Conversation((), text="q a"),
        Conversation((), text="qa"),
        chat(("user", "q\ud800"), ("assistant", "a")),
    ]
    assert len({content_key(row) for row in rows}) == len(rows)


def test_the_order_of_a_tools_keys_does_not_count():
    turned = dict(reversed(CALL.items()))
    assert content_key(chat(("user", "q"), tools=(CALL,))) == content_key(chat(("user", "q"), tools=(turned,)))


def test_keys_splits_and_copies_are_the_same_in_every_version():
    key = content_key(chat(("user", "q"), ("assistant", "a")))
    splits = parse_splits(("train=0.5", "eval=0.5"))
    assert key == 11421649620836684467
    assert [split_of(key, seed, splits) for seed in range(6)] == ["eval", "train", "eval", "eval", "eval", "eval"]
    assert [copies(key, seed, 1.5) for seed in range(6)] == [2, 2, 2, 2, 2, 2]


def of(*settings: str, seed: int = 0) -> list[str]:
    return [split_of(key, seed, parse_splits(settings)) for key in KEYS]


def test_the_order_of_splits_moves_no_row():
    assert of("train=0.9", "eval=0.06", "test=0.04") == of("test=0.04", "train=0.9", "eval=0.06")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_splits_have_their_shares_of_the_rows(share):
    found = of(f"train={1 - share}", f"eval={share}").count("eval") / len(KEYS)
    assert abs(found - share) < 4 * (share * (1 - share) / len(KEYS)) ** 0.5


def test_a_split_that_grows_only_takes_rows_in():
    before, after = of("train=0.8", "eval=0.1", "test=0.1"), of("train=0.64", "eval=0.28", "test=0.08")
    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {("train", "eval"), ("test", "eval")}


def test_a_row_moves_only_to_a_split_that_grew_in_relation_to_its_own():
    before, after = of("a=0.4", "b=0.3", "c=0.2", "d=0.1"), of("a=0.1", "b=0.3", "c=0.25", "d=0.35")
    growth = {"a": 0.25, "b": 1, "c": 1.25, "d": 3.5}
    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moved
    assert all(growth[new] > growth[old] for old, new in moved)


def test_a_split_that_is_added_only_takes_rows_in():
    moved = {
        (old, new) for old, new in zip(of("a=0.5", "b=0.5"), of("a=0.4", "b=0.4", "c=0.2"), strict=True) if old != new
    }
    assert moved == {("a", "c"), ("b", "c")}


def test_another_seed_is_another_split():
    assert of("train=0.5", "eval=0.5") != of("train=0.5", "eval=0.5", seed=1)


def test_without_splits_rows_have_none_and_a_single_one_takes_all():
    assert split_of(KEYS[0], 0, ()) == ""
    assert split_of(KEYS[0], 0, (Split("all", 1.0),)) == "all"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("train",), "write a name"),
        (("=0.5", "b=0.5"), "write a name"),
        (("train=much",), "write a name"),
        (("train=nan",), "write a name"),
        (("train=0.9", "eval=0.2"), r"add up to 1\.1"),
        (("train=1", "eval=0"), "above 0"),
        (("a=1.5", "b=-0.5"), "above 0"),
        (("../up=0.5", "b=0.5"), "letters"),
        (("a=0.5", "a=0.5"), "twice"),
    ],
)
def test_splits_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        parse_splits(settings)


@pytest.mark.parametrize("weight", [0, 0.3, 1, 2.5])
def test_rows_are_taken_as_often_as_their_weight_says(weight):
    taken = [copies(key, 0, weight) for key in KEYS]
    assert set(taken) == {int(weight), int(weight) + (weight % 1 > 0)}
    assert abs(sum(taken) / len(KEYS) - weight) < 0.03


def test_more_weight_takes_no_row_less_often():
    steps = [0, 0.2, 0.7, 0.999, 1, 1.4, 2, 2.5, 3]
    for key in KEYS[:300]:
        taken = [copies(key, 0, weight) for weight in steps]
        assert taken == sorted(taken)


def test_the_split_of_a_row_says_nothing_about_its_copies():
    splits = of("a=0.5", "b=0.5")
    both = sum(copies(key, 0, 0.5) for key, split in zip(KEYS, splits, strict=True) if split == "a")
    assert abs(both / splits.count("a") - 0.5) < 0.05


def test_the_last_weight_that_fits_a_file_counts():
    files = ["web/a.jsonl", "web/b=c.jsonl", "good.json"]
    assert weights(files, ["web/*=0.3", "web/b=c.jsonl=2"]) == {"web/a.jsonl": 0.3, "web/b=c.jsonl": 2, "good.json": 1}


def test_a_file_is_named_even_if_its_name_reads_as_a_pattern():
    assert weights(["a[1].json"], ["a[1].json=0.5"]) == {"a[1].json": 0.5}


@pytest.mark.parametrize(
    ("setting", "said"), [("gone.json=2", r"the inputs: a\.json"), ("a.json=-1", "0 or more"), ("a.json", "name")]
)
def test_weights_that_cannot_be_are_refused(setting, said):
    with pytest.raises(ConfigError, match=said):
        weights(["a.json"], [setting])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"duplicates_threshold": 0.1}, "duplicates_threshold"),
        ({"contamination_words": 2}, "contamination_words"),
        ({"contamination_share": 50}, "contamination_share"),
        ({"splits": ("a=0.1",)}, "splits"),
        ({"weights": ("b.json=1",)}, "weights"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(settings, said):
    check(Selection(), ["a.json"])
    with pytest.raises(ConfigError, match=said):
        check(Selection(**settings), ["a.json"])
