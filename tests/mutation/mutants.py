"""Mutants of a module: each with one small thing changed, by the operators of cosmic-ray."""

from __future__ import annotations

import ast
import random
from dataclasses import dataclass
from pathlib import Path

# Replacements that say little: on floats and tensors the bit operators can only raise, and a variable that is inserted
# or replaced at random makes another mutant each time.
_LEFT_OUT = ("RShift", "LShift", "BitXor", "UAdd", "Invert_", "VariableInserter", "VariableReplacer")
# Between integers and between masks these are meant; arithmetic in their place, or they in its, says little too.
_BITS = ("BitOr", "BitAnd")


@dataclass(frozen=True)
class Mutant:
    """A module with one thing changed.

    Attributes:
        file: relative to the project, with slashes.
        line: where the change begins, from 1.
        function: the innermost definition around it, dotted; ``<module>`` outside of all.
        operator: cosmic-ray's name for the change.
        removed, added: the lines that differ, without their indentation.
        code: the whole module.
    """

    file: str
    line: int
    function: str
    operator: str
    removed: str
    added: str
    code: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names it though lines above it come and go."""
        return self.file, self.function, self.removed, self.added

    @property
    def place(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.line}"


Place = tuple[str, int]
"""An operator's name, and which of the places that it changes."""


def places_of(source: str) -> list[Place]:
    """What the operators would change, some of it to the same program.

    Raises:
        ModuleNotFoundError: cosmic-ray isn't installed.
    """
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(source)))
    found = []
    for name in operator_names():
        operator_class = get_operator(name)
        if not operator_class.arguments() and _is_wanted(name):
            operator = operator_class()
            number = sum(len(list(operator.mutation_positions(node))) for node in nodes)
            found += [(name, occurrence) for occurrence in range(number)]
    return found


def mutants_of(root: Path, file: str, sample: int | None = None, seed: int = 0) -> list[Mutant]:
    """Mutants of a module, in the order of their lines; each program once.

    Left out is what is the same program: a change in a docstring, or in an annotation, which is never evaluated.

    Args:
        sample: so many of them at most, drawn by the seed; a larger sample holds the smaller. ``None``: all.

    Raises:
        ModuleNotFoundError: cosmic-ray isn't installed.
    """
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (root / file).read_text(encoding="utf-8")
    seen = {_meaning(source)}
    found: list[Mutant] = []
    places = places_of(source)
    random.Random(seed).shuffle(places)
    for operator, occurrence in places:
        if sample is not None and len(found) >= sample:
            break
        code = mutate_code(source, get_operator(operator)(), occurrence)
        try:
            meaning = _meaning(code)
        except SyntaxError:
            continue
        if meaning not in seen:
            seen.add(meaning)
            found.append(_described(file, source, code, operator.removeprefix("core/")))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.operator, mutant.added))


def _is_wanted(name: str) -> bool:
    if any(part in name for part in _LEFT_OUT):
        return False
    _, _, change = name.partition("BinaryOperator_")
    bits = [part for part in _BITS if part in change]
    return not bits or change in ("BitOr_BitAnd", "BitAnd_BitOr")


class _WithoutIdleText(ast.NodeTransformer):
    """Takes away what a module that postpones annotations never evaluates, and docstrings."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        return node

    def _without_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body = [
            part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        ]
        return node


def _meaning(source: str) -> str:
    return ast.dump(_WithoutIdleText().visit(ast.parse(source)))


def _described(file: str, source: str, code: str, operator: str) -> Mutant:
    before, after = source.splitlines(), code.splitlines()
    shorter = min(len(before), len(after))
    # An operator changes one place: all before it is alike, and all after it.
    first = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    last = next((i for i in range(shorter - first) if before[-1 - i] != after[-1 - i]), shorter - first)
    removed, added = ("\n".join(line.strip() for line in lines[first : len(lines) - last]) for lines in (before, after))
    return Mutant(file, first + 1, _function_at(source, first + 1), operator, removed, added, code)


def _function_at(source: str, line: int) -> str:
    names: list[str] = []
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.ClassDef):
                nodes.append(child)
                continue
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            if first <= line <= (child.end_lineno or first):
                names.append(child.name)
                nodes = [child]
                break
    return ".".join(names) or "<module>"
