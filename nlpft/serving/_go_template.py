"""A chat template as a template of Go's text/template (pkg.go.dev/text/template), as Ollama's Modelfiles have them.

What stands between two texts is found by rendering the chat template: in the families that nlpft knows it depends on the roles of
the turns before and behind it alone. Longer conversations prove that; a template for which it is not so is refused.
"""

import itertools
import json
from collections.abc import Sequence

from nlpft.errors import ModelError, RowRejected
from nlpft.templates._chat import ChatTemplate
from nlpft.types import Message, Role

START, PROMPT = "", "prompt"  # before the first turn, and behind the last one
MARK = "qq{}zz"
LONGEST = 3  # questions

Pieces = dict[tuple[str, str], str]  # between the turns of two roles


def go_template(template: ChatTemplate, bos: str = "") -> str:
    """The Go template that writes what `template` does for a system's message (where it takes one), questions and answers.

    bos: the token that Ollama's runner puts before a prompt by itself, because the tokenizer does; it is not written twice.
    Raises ModelError where no such template can.
    """
    pieces: Pieces = {}
    for roles in conversations(template):
        for pair, text in zip(pairs(roles), rendered(template, roles), strict=True):
            if pieces.setdefault(pair, text) != text:
                raise ModelError(
                    f"the chat template writes {pieces[pair]!r} and {text!r} between turns of the same roles; Ollama's templates "
                    "cannot follow it"
                )
    pieces = {pair: text.removeprefix(bos) if pair[0] == START else text for pair, text in pieces.items()}
    return written(pieces)


def conversations(template: ChatTemplate) -> list[tuple[Role, ...]]:
    """Sequences of roles, up to LONGEST questions, with and without a system's message if the template takes one."""
    turns: list[tuple[Role, ...]] = [("user", *(("assistant", "user") * n)) for n in range(LONGEST)]
    try:
        rendered(template, ("system", "user"))
    except (RowRejected, ModelError):
        return turns
    return [*turns, *(("system", *roles) for roles in turns)]


def pairs(roles: Sequence[str]) -> list[tuple[str, str]]:
    """The roles on both sides of each piece."""
    return list(itertools.pairwise([START, *roles, PROMPT]))


def rendered(template: ChatTemplate, roles: Sequence[Role]) -> list[str]:
    """The pieces around the texts of turns of these roles [turns + 1]. Raises ModelError where a text moves or is missing."""
    marks = [MARK.format(i) for i in range(len(roles))]
    text = template.render([Message(role, mark) for role, mark in zip(roles, marks, strict=True)], generate=True)
    pieces = []
    for mark in marks:
        piece, found, text = text.partition(mark)
        if not found:
            raise ModelError(
                f"the chat template drops or moves turns ({', '.join(roles)}); Ollama's templates cannot follow it"
            )
        pieces.append(piece)
    return [*pieces, text]


def written(pieces: Pieces) -> str:
    """`pieces` as a Go template; each action is on a line of its own, of which the dash takes the newline away."""
    roles = [role for role in ("system", "user", "assistant") if any(after == role for _, after in pieces)]
    lines = ['{{- $last := "" }}', "{{- range .Messages }}"]
    for number, role in enumerate(roles):
        before = {last: text for (last, after), text in pieces.items() if after == role}
        lines.append(f'{{{{- {"else " if number else ""}if eq .Role "{role}" }}}}{choice(before)}{{{{ .Content }}}}')
    behind = {last: text for (last, after), text in pieces.items() if after == PROMPT}
    lines += ["{{- end }}", "{{- $last = .Role }}", "{{- end }}"]
    return "\n".join([*lines, f'{{{{- if ne $last "assistant" }}}}{choice(behind)}', "{{- end }}"])


def choice(by_last: dict[str, str]) -> str:
    """An action that writes the text that goes by the role of the turn before."""
    texts = list(dict.fromkeys(by_last.values()))
    if len(texts) == 1:
        return literal(texts[0])
    cases = []
    for number, text in enumerate(texts):
        wanted = " ".join(f'"{last}"' for last, known in by_last.items() if known == text)
        head = "else" if number == len(texts) - 1 else f"{'else ' if number else ''}if eq $last {wanted}"
        cases.append(f"{{{{ {head} }}}}{literal(text)}")
    return "".join(cases) + "{{ end }}"


def literal(text: str) -> str:
    """An action that writes `text`. Go and JSON escape in the same way what is escaped here."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""
