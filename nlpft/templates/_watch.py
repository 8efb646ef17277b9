"""Renders a chat template and sees whether it looks at a text, instead of only writing it or stripping its ends.

The template's syntax tree is rewritten so that every place where Jinja could look at a text (comparisons, tests, filters,
method calls, subscripts, loops) first shows its operands to a watcher. The watched texts carry a mark, so that they are known
wherever they have got to, through variables, macros and concatenation. What was not looked at cannot have decided anything: for
all other texts the template writes the same around them.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from nlpft.templates import _jinja

MARK = "\ue000"  # opens a watched text; a private-use character that no template spells
CLOSE = "\ue001"

# What may be done to a text, or to a container of texts, without looking at it.
STRIPS = {"strip", "lstrip", "rstrip"}
WRITES = {"join", "format"}
TEXT_FILTERS = {"string", "safe", "default", "d"}
CONTAINER_FILTERS = {
    "list", "map", "select", "reject", "selectattr", "rejectattr", "first", "last", "length", "count", "items", "reverse",
    "batch", "slice", "join", "default", "d",
}  # fmt: skip
TYPE_TESTS = {
    "string", "mapping", "iterable", "sequence", "number", "integer", "float", "boolean", "callable", "defined", "undefined",
    "none", "true", "false", "filter", "test", "odd", "even", "divisibleby",
}  # fmt: skip


class Watched:
    """A template that is rendered under watch. Raises jinja2.TemplateError where `source` is no template."""

    def __init__(self, source: str) -> None:
        self._looks: list[str] = []
        environment = _Environment(self._looks.append)
        tree = _Rewrite().visit(copy.deepcopy(environment.parse(source)))
        code = environment.compile(tree)
        self._template = environment.template_class.from_code(environment, code, environment.make_globals(None))

    def render(self, **variables: Any) -> tuple[str, str]:
        """The text, and the first thing that looked at a marked text ('' if nothing did)."""
        self._looks.clear()
        text = self._template.render(**variables)
        return text, self._looks[0] if self._looks else ""


def marked(value: Any, deep: bool = True) -> bool:
    """Whether `value` is a marked text or, where `deep`, holds one."""
    if isinstance(value, str):
        return MARK in value
    if deep and isinstance(value, dict):
        return any(map(marked, value.values()))
    return deep and isinstance(value, (list, tuple)) and any(map(marked, value))


class _Environment(_jinja.Environment):
    """transformers' environment, whose filters, tests and calls tell `look` of marked texts."""

    def __init__(self, look: Callable[[str], None]) -> None:
        super().__init__()
        self._look = look
        self.filters = {n: self._watch(n, call, TEXT_FILTERS, CONTAINER_FILTERS) for n, call in self.filters.items()}
        self.tests = {n: self._watch(n, call, TYPE_TESTS, TYPE_TESTS) for n, call in self.tests.items()}
        for name in ("compared", "looked_up", "iterated"):
            self.filters[name] = getattr(self, f"_{name}")

    def _watch(self, name: str, call: Callable, of_text: set[str], of_container: set[str]) -> Callable:
        passed = 1 if getattr(call, "jinja_pass_arg", None) else 0  # the context comes first

        def watched(*args: Any, **options: Any) -> Any:
            first, *rest = args[passed:]
            if marked([first, *rest, *options.values()]):
                harmless = name in (of_text if isinstance(first, str) else of_container)
                strips = name == "trim" and isinstance(first, str) and not rest and not options  # blanks, at its ends
                if not harmless and not strips:
                    self._look(name)
            return call(*args, **options)

        watched.__dict__.update(getattr(call, "__dict__", {}))
        return watched

    def call(__self, __context: Any, __obj: Any, *args: Any, **options: Any) -> Any:
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str):
            texts = marked([*args, *options.values()])
            if (texts and name not in WRITES) or (marked(owner) and (name not in STRIPS or args or options)):
                __self._look(f".{name}()")
        elif isinstance(owner, (dict, list, tuple)) and any(marked(a, deep=False) for a in args):
            __self._look(f".{name}()")
        return super().call(__context, __obj, *args, **options)

    def _compared(self, value: Any, other: Any, op: str) -> Any:
        """`value` on its way into `value op other` (an `in` sees the keys of a mapping, not its texts)."""
        if other is not None and value is not None and other != "" and value != "":
            keys_only = op in ("in", "notin") and isinstance(other, dict)
            if marked(value) or (marked(other) and not keys_only):
                self._look(op)
        return value

    def _looked_up(self, value: Any) -> Any:
        if marked(value, deep=False):
            self._look("[]")
        return value

    def _iterated(self, value: Any) -> Any:
        if marked(value, deep=False):
            self._look("for")
        return value


class _Rewrite(NodeTransformer):
    """Puts a watching filter where Jinja compiles to plain Python."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if len(node.ops) == 1:
            other = node.ops[0]
            node.expr = _filter(node.expr, "compared", [other.expr, nodes.Const(other.op)])
        else:  # a < b < c: nobody compares texts so
            node.expr = _filter(node.expr, "looked_up", [])
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        node.node = _filter(node.node, "looked_up", [])
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filter(node.iter, "iterated", [])
        return node

    def visit_Mod(self, node: nodes.Mod) -> nodes.Node:
        self.generic_visit(node)
        node.left = _filter(node.left, "looked_up", [])
        return node


def _filter(node: nodes.Expr, name: str, args: Iterable[nodes.Expr]) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)
