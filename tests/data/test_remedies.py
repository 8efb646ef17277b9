"""No row is rejected without a word on what to do."""

import ast
import importlib
from pathlib import Path

import nlpft
from nlpft.data.remedies import REMEDIES, remedy

ROOT = Path(nlpft.__file__).parent


def reasons() -> dict[str, str]:
    """Every reason that the code gives to RowRejected, as a literal or by a constant's name, and where."""
    found = {}
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RowRejected" and node.args:
                for value in values(node.args[0], path):
                    found[value] = f"{path.name}:{node.lineno}"
    return found


def values(node: ast.expr, path: Path) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return values(node.body, path) + values(node.orelse, path)
    name = ast.unparse(node)
    if name.split(".")[-1].isupper():
        module = importlib.import_module(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
        return [eval(name, vars(module))]
    return []


def test_every_reason_has_a_remedy():
    known = reasons()
    assert len(known) > 40
    assert {reason: place for reason, place in known.items() if not remedy(reason)} == {}


def test_every_remedy_has_a_reason():
    text = "".join(path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py") if "remedies" not in path.name)
    assert [reason for reason in REMEDIES if f'"{reason}"' not in text] == []
