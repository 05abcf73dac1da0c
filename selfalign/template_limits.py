"""What a prompt file may do: put values in, choose between texts, and go through a list that it spells out.

Jinja's sandbox keeps a template from Python's insides, but not from loops that never end or texts that fill the
memory ({% for %} in {% for %}, 'x' * 10**10, recursive macros). Here that is refused before anything is run:
what is left takes time and space in proportion to the file and its values.
"""

from __future__ import annotations

from jinja2 import nodes

#: None of these makes a text longer than by a constant factor.
FILTERS = frozenset({
    "capitalize", "count", "d", "default", "e", "escape", "first", "float", "int", "last", "length", "lower", "string",
    "title", "tojson", "trim", "upper", "wordcount",
})  # fmt: skip
_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.If,
    nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Test, nodes.Assign,
    nodes.Getitem, nodes.Slice, nodes.Neg,
)  # fmt: skip
_REMEDY = "a prompt file may use values, if, and for over a list written out"


def refused(tree: nodes.Template) -> str | None:
    """What in ``tree`` a prompt file may not do, as one line; None where there is nothing."""
    return _refused(tree, in_loop=False)


def _refused(node: nodes.Node, in_loop: bool) -> str | None:
    if not isinstance(node, _ALLOWED) and (problem := _special(node, in_loop)):
        return f"{problem} (line {node.lineno} of the message): {_REMEDY}"
    inside = in_loop or isinstance(node, nodes.For)
    found = (_refused(child, inside) for child in node.iter_child_nodes())
    return next((problem for problem in found if problem), None)


def _special(node: nodes.Node, in_loop: bool) -> str | None:
    """Kinds that are allowed in one form only."""
    if isinstance(node, nodes.Filter):
        return None if node.name in FILTERS else f"filter '{node.name}' is not one of {', '.join(sorted(FILTERS))}"
    if isinstance(node, nodes.Getattr):
        own = isinstance(node.node, nodes.Name) and node.node.name == "loop" and not node.attr.startswith("_")
        return None if own else f"attribute '.{node.attr}' is not allowed"
    if isinstance(node, nodes.For):
        if in_loop or node.recursive:
            return "a loop in a loop is not allowed"
        return None if isinstance(node.iter, nodes.List | nodes.Tuple) else "the loop is not over a list written out"
    return f"{type(node).__name__.lower()} is not allowed"
