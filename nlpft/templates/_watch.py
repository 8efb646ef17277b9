"""Renders a chat template and sees whether it looks at a text, instead of only writing it or stripping its ends.

Texts are marked, so that they are known wherever they have got to: through variables, macros and concatenation. Every place where
Jinja could look at one (comparison, test, filter, method, subscript, loop, unpacking) shows it to the watcher first. What was not
looked at cannot have decided anything: for all other texts the template writes the same around them.

Many templates ask whether a text holds a certain word ('</think>'). Then the answer is no, a mark being none, and the word is
noted: the rendering stands for all texts that do not hold it.
"""

import itertools
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jinja2 import nodes
from jinja2.runtime import LoopContext, Macro
from jinja2.utils import Cycler, Joiner, Namespace
from jinja2.visitor import NodeTransformer

from nlpft.templates import _jinja

MARK, CLOSE = "\ue000", "\ue001"  # private-use characters, which no template spells
LEFT, RIGHT = "\f", "\v"  # blanks around a mark: those that are gone from the rendering were stripped
MARKED = re.compile(f"({LEFT}?){MARK}(\\d+){CLOSE}({RIGHT}?)")
OURS = re.compile(f"[{MARK}{CLOSE}{LEFT}{RIGHT}]")

# What may be done to a text, or to a container of texts, without looking at it.
WRITES_TEXT = {"string", "default", "d"}
WRITES_ITEMS = {
    "list", "map", "select", "reject", "selectattr", "rejectattr", "first", "last", "length", "count", "items", "reverse",
    "batch", "slice", "join", "default", "d",
}  # fmt: skip
TYPE_TESTS = {
    "string", "mapping", "iterable", "sequence", "number", "integer", "float", "boolean", "callable", "defined", "undefined",
    "none", "true", "false",
}  # fmt: skip
STRIPS = {"strip": ("starts", "ends"), "lstrip": ("starts",), "rstrip": ("ends",), "trim": ("starts", "ends")}
# Methods (and filters) that do nothing, or say no, where the text does not hold their first argument, and where it must not be.
SEARCHES = {
    "startswith": "starts", "endswith": "ends", "split": "holds", "rsplit": "holds", "replace": "holds", "find": "holds",
    "count": "holds",
}  # fmt: skip
ESCAPES = {"safe", "escape", "e", "forceescape", "xmlattr", "urlize"}  # make text that escapes what it is joined with
HOLDERS = (dict, Namespace, Cycler, Joiner)  # keep what they are called with, and do not look at it
JINJAS_OWN = {"_loop_vars", "_block_vars"}  # passed along with calls from within loops and blocks

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "lteq": operator.le, "gt": operator.gt, "gteq": operator.ge,
    "in": lambda a, b: a in b, "notin": lambda a, b: a not in b,
}  # fmt: skip


class Words(NamedTuple):
    """What texts must not hold, begin or end with for a rendering to stand for them."""

    holds: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()

    def found(self, texts: Sequence[str]) -> bool:
        """Whether one of `texts` has one of the words, at its bare ends too."""
        starts, ends = self.starts, self.ends
        return (
            any(word in text for word in self.holds for text in texts)
            or (bool(starts) and any(t.startswith(starts) or t.lstrip().startswith(starts) for t in texts))
            or (bool(ends) and any(t.endswith(ends) or t.rstrip().endswith(ends) for t in texts))
        )


class Seen:
    """What a template has asked about the texts in one rendering: yes-or-no questions for words, and what else looked."""

    def __init__(self) -> None:
        self.look = ""
        self._asked: set[tuple[str, str]] = set()

    def looks(self, name: str) -> None:
        self.look = self.look or name

    def asks(self, kinds: Iterable[str], words: Iterable[Any], value: str, name: str) -> None:
        """`value` is searched for `words`: no more than a question where it is one whole text, and has none of them."""
        words = list(words)
        if not MARKED.fullmatch(value) or any(not isinstance(w, str) or w in value or OURS.search(w) for w in words):
            self.looks(name)
        self._asked.update((kind, word) for kind in kinds for word in words)

    def asked(self) -> tuple[tuple[str, str], ...]:
        """(where, word) of all questions."""
        return tuple(sorted(self._asked))


def words_of(asked: Iterable[tuple[str, str]]) -> Words:
    """`asked`, of one rendering or of several, by place."""
    pairs = sorted(set(asked))
    return Words(*(tuple(word for kind, word in pairs if kind == field) for field in Words._fields))


def marks(count: int) -> tuple[str, ...]:
    """A mark for each of `count` texts."""
    return tuple(f"{LEFT}{MARK}{i}{CLOSE}{RIGHT}" for i in range(count))


def between(text: str, spans: Iterable[tuple[int, int]]) -> list[str]:
    """What stands in `text` before, between and behind `spans`, [spans + 1]."""
    edges = [0, *itertools.chain.from_iterable(spans), len(text)]
    return [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]


class Watched:
    """A template that is rendered under watch. Raises jinja2.TemplateError where `source` is no template."""

    def __init__(self, source: str) -> None:
        self._environment = environment = _Environment()
        tree = _Rewrite().visit(environment.parse(source))
        self._always = "autoescape" if tree.find(nodes.EvalContextModifier) else ""
        self._always = "a mark of ours" if any(map(OURS.search, _spelt(tree))) else self._always
        code = environment.compile(tree)
        self._template = environment.template_class.from_code(environment, code, environment.make_globals(None))

    def begin(self) -> Seen:
        """Where the next renderings write what they have seen, also when they end in an exception."""
        self._environment.seen = seen = Seen()
        if self._always:
            seen.looks(self._always)
        return seen

    def render(self, **variables: Any) -> str:
        """The text."""
        return self._template.render(**variables)


def _spelt(tree: nodes.Template) -> list[str]:
    """All text that a template's own source holds."""
    constants = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return constants + [node.data for node in tree.find_all(nodes.TemplateData)]


def is_marked(value: Any) -> bool:
    """Whether `value` is a marked text, holds one, or cannot be looked into without using it up."""
    if isinstance(value, str):
        return MARK in value
    if isinstance(value, dict):
        return any(map(is_marked, value.values())) or any(map(is_marked, value))
    if isinstance(value, (list, tuple)):
        return any(map(is_marked, value))
    return hasattr(type(value), "__next__") or type(value).__name__.startswith("dict_")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and MARK in value


class _Environment(_jinja.Environment):
    """transformers' environment, in which filters, tests, calls and subscripts tell `seen` of marked texts."""

    intercepted_binops = frozenset(["%"])

    def __init__(self) -> None:
        super().__init__()
        self.optimized = False  # else filters of constants are called while compiling, unseen
        self.seen = Seen()
        self.filters = {name: self._watch_filter(name, call) for name, call in self.filters.items()}
        tests: dict[str, Any] = self.tests
        self.tests = {name: self._watch_test(name, call) for name, call in tests.items()}
        for name in ("compared", "chained", "looked_into", "unpacked"):
            self.filters[name] = getattr(self, f"_{name}")

    def getattr(self, obj: Any, attribute: str) -> Any:
        # The first two are what the sandbox gives, in a tenth of its time.
        if type(obj) is dict and attribute in obj and not hasattr(dict, attribute):
            return obj[attribute]
        if type(obj) is LoopContext and hasattr(LoopContext, attribute) and attribute[0] != "_":
            return getattr(obj, attribute)
        if _is_text(obj) and attribute not in STRIPS and attribute not in SEARCHES:
            self.seen.looks(f".{attribute}")
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if type(obj) is dict and type(argument) is str and argument in obj:
            return obj[argument]  # as above
        if _is_text(obj):
            self.seen.looks("[]")
        return super().getitem(obj, argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, str) and is_marked([left, right]):  # a text's own '%', or '%.5s' for a text
            self.seen.looks(operator)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **options: Any) -> Any:
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        given = {key: value for key, value in options.items() if key not in JINJAS_OWN}
        if isinstance(owner, str) and MARK in owner:
            __self._method(owner, name, args, given)
        elif not (isinstance(__obj, Macro) or any(__obj is holder for holder in HOLDERS)):
            joins = name == "join" and isinstance(owner, str)
            if not joins and (is_marked(args) or is_marked(given)):
                __self.seen.looks(f"{name}()")
        return super().call(__context, __obj, *args, **options)

    def _method(self, text: str, name: str, args: tuple, options: dict) -> None:
        if options:
            self.seen.looks(f".{name}()")
        elif name in STRIPS:
            if args and args[0] is not None:  # other characters than blanks
                self.seen.asks(STRIPS[name], args[0] if isinstance(args[0], str) else [args[0]], text, f".{name}()")
        elif name in SEARCHES and args:
            words = args[0] if isinstance(args[0], tuple) else args[:1]
            self.seen.asks((SEARCHES[name],), words, text, f".{name}()")
        else:
            self.seen.looks(f".{name}()")

    def _watch_filter(self, name: str, call: Callable) -> Callable:
        passed = 1 if getattr(call, "jinja_pass_arg", None) else 0  # the context comes first

        def watched(*args: Any, **options: Any) -> Any:
            first, *rest = args[passed:]
            if name in ESCAPES:
                self.seen.looks(name)
            elif isinstance(first, str):
                if MARK in first and name in ("trim", "replace"):
                    self._method(first, name, tuple(rest), options)
                elif name not in WRITES_TEXT and (MARK in first or is_marked(rest) or is_marked(options)):
                    self.seen.looks(name)
            elif name not in WRITES_ITEMS and (is_marked([first, *rest]) or is_marked(options)):
                self.seen.looks(name)
            return call(*args, **options)

        watched.__dict__.update(getattr(call, "__dict__", {}))
        return watched

    def _watch_test(self, name: str, call: Callable) -> Callable:
        def watched(*args: Any, **options: Any) -> Any:
            if name not in TYPE_TESTS and is_marked(args):
                self.seen.looks(f"is {name}")
            return call(*args, **options)

        watched.__dict__.update(getattr(call, "__dict__", {}))
        return watched

    def _compared(self, value: Any, other: Any, op: str) -> bool:
        """`value op other`."""
        if type(value) is not str or type(other) is not str or MARK in value or MARK in other:
            self._compare(value, other, op)
        return COMPARE[op](value, other)

    def _compare(self, value: Any, other: Any, op: str) -> None:
        if op in ("in", "notin"):
            self._search(value, other, op)
        elif value == "" or other == "":  # a text that has a shape is not blank
            pass
        elif isinstance(value, str) and isinstance(other, str):
            self._equal(value, other, op)
        elif op in ("eq", "ne") and (isinstance(value, str) or isinstance(other, str)):
            pass  # a text is equal to nothing but a text
        elif is_marked([value, other]):
            self.seen.looks(op)

    def _equal(self, value: str, other: str, op: str) -> None:
        text, word = (other, value) if MARK in other else (value, other)
        if MARK in text:
            if op in ("eq", "ne"):
                self.seen.asks(("starts",), [word], text, op)
            else:
                self.seen.looks(op)

    def _search(self, value: Any, other: Any, op: str) -> None:
        if _is_text(other):
            if value != "":
                self.seen.asks(("holds",), [value], other, op)
        elif isinstance(other, dict):  # its keys
            if _is_text(value):
                self.seen.looks(op)
        elif other != "" and is_marked([value, other]):
            self.seen.looks(op)

    def _chained(self, value: Any) -> Any:
        if is_marked(value):
            self.seen.looks("<")
        return value

    def _looked_into(self, value: Any) -> Any:
        if _is_text(value):
            self.seen.looks("[]")
        return value

    def _unpacked(self, value: Any) -> Any:
        """`value` on its way into `for a, b in value`: none of its items may be a text that is taken apart."""
        items = value if isinstance(value, (list, tuple, dict)) else list(value)
        if _is_text(value) or any(map(_is_text, items)):
            self.seen.looks("for")
        return items


class _Rewrite(NodeTransformer):
    """Puts a watching filter where Jinja compiles to plain Python."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if len(node.ops) == 1:
            other = node.ops[0]
            return _filter(node.expr, "compared", [other.expr, nodes.Const(other.op)])
        node.expr = _filter(node.expr, "chained")  # a < b < c
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "chained")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):  # all others pass through `getitem`
            node.node = _filter(node.node, "looked_into")
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filter(node.iter, "unpacked" if isinstance(node.target, nodes.Tuple) else "looked_into")
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.target, nodes.Tuple) and not isinstance(node.node, nodes.Tuple):
            node.node = _filter(node.node, "looked_into")
        return node


def _filter(node: Any, name: str, args: Sequence[nodes.Expr] = ()) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)
