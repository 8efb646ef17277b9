"""A corpus in the two forms that the benchmark needs: the file that nlpft reads, and chats as the peers read them.

ShareGPT (`conversations` of from and value), Alpaca and `messages` are understood, as JSON array (cut off or not) or JSONL.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}
ROLES |= {"bard": "assistant", "assistant": "assistant", "system": "system"}
NAMES = {"user": "human", "assistant": "gpt", "system": "system"}  # in ShareGPT
Turns = list[tuple[str, str]]  # role and text


def records(path: Path) -> Iterator[Any]:
    """The complete records of a file."""
    text = path.read_text(encoding="utf-8")
    if not text.lstrip().startswith("["):
        yield from map(json.loads, filter(None, text.splitlines()))
        return
    decode, at = json.JSONDecoder().raw_decode, text.index("[") + 1
    while True:
        while text[at : at + 1] in (",", " ", "\n", "\r", "\t"):
            at += 1
        try:
            record, at = decode(text, at)
        except ValueError:  # the array's end, or where the file was cut off
            return
        yield record


def turns(record: dict[str, Any]) -> Turns:
    """Role and text of each turn; turns of unknown roles are left out."""
    if "conversations" in record:
        found = [(turn["from"], turn["value"]) for turn in record["conversations"]]
    elif "messages" in record:
        found = [(turn["role"], turn["content"]) for turn in record["messages"]]
    else:
        question = "\n".join(filter(None, (record["instruction"], record.get("input"))))
        found = [("user", question), ("assistant", record["output"])]
    return [(ROLES[role], text) for role, text in found if role in ROLES]


def cleaned(found: Turns) -> Turns:
    """What of a conversation every peer keeps: question and answer in turn, no blank ones; nothing where none is left."""
    found = [(role, text) for role, text in found if text.strip()]
    system = [turn for turn in found[:1] if turn[0] == "system"]
    kept: Turns = []
    for role, text in found:
        if role == "system" or (not kept and role != "user"):
            continue
        if kept and kept[-1][0] == role:
            kept[-1] = (role, f"{kept[-1][1]}\n\n{text}")
        else:
            kept.append((role, text))
    while kept and kept[-1][0] != "assistant":
        kept.pop()
    return system + kept if kept else []


def write_chats(conversations: list[Turns], path: Path) -> None:
    """JSONL of `messages`: what the peers' jobs read."""
    with path.open("w", encoding="utf-8") as file:
        for found in conversations:
            messages = [{"role": role, "content": text} for role, text in found]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def write_sharegpt(conversations: list[Turns], path: Path) -> None:
    """A JSON array of `conversations`, as ShareGPT's own file is."""
    with path.open("w", encoding="utf-8") as file:
        for number, found in enumerate(conversations):
            record = {
                "id": f"{number}",
                "conversations": [{"from": NAMES[role], "value": text} for role, text in found],
            }
            file.write((",\n" if number else "[\n") + json.dumps(record, ensure_ascii=False))
        file.write("\n]\n")


def grown(path: Path, times: int, target: Path) -> Path:
    """`path` with all its records `times` times, one copy behind the other."""
    data = path.read_bytes().strip()
    array = data.startswith(b"[")
    body = data[1:].removesuffix(b"]").strip().removesuffix(b",") if array else data
    with target.open("wb") as file:
        file.write(b"[\n" if array else b"")
        for number in range(times):
            file.write((b",\n" if array and number else b"") + body + (b"" if array else b"\n"))
        file.write(b"\n]\n" if array else b"")
    return target
