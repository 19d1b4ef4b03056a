"""Counters of the source tree: each takes the modules of a tree and returns the places it found, one a line of text.

Every rule goes by the shape of the code (its syntax tree), and by names only where a shape alone would not do; the rule is the counter's docstring.
Tests are no part of the product and are not counted.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MOST_POSITIONAL = 6
MOST_PARAMETERS = 8
MOST_LINES = 300
SAME_SHAPE_LINES = 10
_SAME_SHARE = 0.5  # of the runs of syntax nodes
_VARIADIC = frozenset(("print", "zip", "max", "min", "join", "chain", "product", "einsum", "format", "broadcast_tensors", "block_diag", "addEngineParams"))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_STORED = frozenset(("savez", "dump", "write_table", "memmap", "save_checkpoint", "savez_compressed", "write_npz"))
_READ_BACK = frozenset(("load", "read_table", "memmap", "loads"))
_PIXEL = re.compile(r"pixel|voxel|sampling|spacing", re.I)
_SHORT = re.compile(r"\b(off|ratio|given|own|apart|error|scale)\b")


@dataclass(frozen=True)
class Module:
    """One source file of the product."""

    name: str
    text: str
    tree: ast.Module

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())


def modules_of(root: Path) -> list[Module]:
    """The product's modules below ``root`` (the folder that holds ``cryolearn``), without its tests."""
    found = []
    for path in sorted((root / "cryolearn").rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith("cryolearn/tests/"):
            text = path.read_text(encoding="utf-8")
            found.append(Module(name, text, ast.parse(text)))
    return found


# ---------------------------------------------------------------- concepts ----------------------------------------------------------------


def fourier_bands(modules: list[Module]) -> list[str]:
    """Classes with fields for frequencies (``kx``, ``ky``, ``points`` or ``frequencies``) and for the shell of each (``ring`` or ``shell``)."""
    found = []
    for module, node in _each(modules, ast.ClassDef):
        fields = {item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)}
        if fields & {"kx", "ky", "points", "frequencies"} and fields & {"ring", "shell", "rings", "shells"}:
            found.append(_at(module, node))
    return found


def slice_extractions(modules: list[Module]) -> list[str]:
    """Classes that read a padded transform (``slice_channels``), and functions named for slices, that make slices of it: they rotate points (a matrix product
    with a rotation) and sample there (``sample_half_volume``). A class that adds to sums (``index_add_``) is a reconstruction."""
    # Not counted: SliceGrid of the Gaussians, which samples no map. It holds the transforms of many models as rows of a table, finds the grid points and
    # weights once for all of them (``embedding_bag``), and needs these for the adjoint, which gathers the particles into the same table.
    found = []
    for module, node in _each(modules, (ast.ClassDef, *_FUNCTIONS)):
        of_class = isinstance(node, ast.ClassDef)
        if not of_class and ("slice" not in node.name or _inside_class(module, node)):
            continue
        calls = _calls(node)
        if not calls & {"slice_channels", "sample_half_volume"}:
            continue
        rotated = any(isinstance(item, ast.BinOp) and isinstance(item.op, ast.MatMult) and "rotation" in ast.unparse(item) for item in ast.walk(node))
        if rotated and ({"slice_channels", "sample_half_volume"} if of_class else {"sample_half_volume"}) <= calls and "index_add_" not in calls:
            found.append(_at(module, node))
    return found


def shift_grids(modules: list[Module]) -> list[str]:
    """Functions named for shifts that lay out a grid: ``arange(-n, ...)`` and a product of axes."""
    found = []
    for module, node in _each(modules, _FUNCTIONS):
        symmetric = any(
            isinstance(item, ast.Call) and _called(item) == "arange" and item.args and isinstance(item.args[0], ast.UnaryOp) for item in ast.walk(node)
        )
        if "shift" in node.name and symmetric and _calls(node) & {"cartesian_prod", "meshgrid", "product"}:
            found.append(_at(module, node))
    return found


def random_starts(modules: list[Module]) -> list[str]:
    """Modules that draw random rotations and follow running sums, ``(1 - f) * old + f * new``: an online EM from a random start."""
    found = []
    for module in modules:
        follows = any(isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _mixes(node) for node in module.nodes)
        if follows and "random_rotations" in _calls(module.tree) and "numerator" in module.text:
            found.append(module.name)
    return found


def fsc_crossings(modules: list[Module]) -> list[str]:
    """Functions that look for the first shell of a correlation curve below a threshold: ``nonzero``, ``flatnonzero`` or ``argmax`` of such a comparison, or a
    loop or comprehension whose condition has one against a ``threshold``."""
    found = []
    for module, node in _each(modules, _FUNCTIONS):
        searched = any(isinstance(item, ast.Call) and _called(item) in {"nonzero", "flatnonzero", "argmax"} and _below(item) for item in ast.walk(node))
        looped = any(
            isinstance(test, ast.Compare) and "threshold" in ast.unparse(test)
            for loop in ast.walk(node) if isinstance(loop, (ast.For, ast.While))
            for branch in ast.walk(loop) if isinstance(branch, ast.If)
            for test in ast.walk(branch.test)
        ) or any(
            isinstance(test, ast.Compare) and "threshold" in ast.unparse(test)
            for part in ast.walk(node) if isinstance(part, ast.comprehension)
            for condition in part.ifs for test in ast.walk(condition)
        )
        if searched or (looped and re.search("curve|correlation|fsc", ast.unparse(node))):
            found.append(_at(module, node))
    return found


def pixel_tolerances(modules: list[Module]) -> list[str]:
    """Numbers that say how alike two pixel sizes must be: literals from 1e-4 to 0.05 in a comparison that names a pixel or voxel size or a sampling, and
    constants of that size that such a comparison uses; a constant that several modules import is one."""
    found = set()
    for module in modules:
        constants = {
            node.targets[0].id: node.lineno for node in module.tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_tolerance(node.value)
        }
        for node in module.nodes:
            if not isinstance(node, ast.Compare):
                continue
            text = ast.unparse(node)
            line = module.text.splitlines()[node.lineno - 1]
            names = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)} & set(constants)
            sizes = bool(_PIXEL.search(text)) and bool(re.search(r"- 1|abs|isclose", text))
            for name in names:
                if re.search("SAME|PIXEL|VOXEL|ISOTROPIC|TOLERANCE", name) and not re.search("NORM|TILT|BOND|DEG", name):
                    if _PIXEL.search(line) or _SHORT.search(text) or _PIXEL.search(name):
                        found.add(f"{module.name}:{constants[name]} {name}")
            if sizes and any(_is_tolerance(item) for item in ast.walk(node)):
                found.add(f"{module.name}:{node.lineno} {text}")
        for name, line in constants.items():  # imported and used elsewhere
            if re.search("SAME_(PIXEL|VOXEL|SAMPLING)|(PIXEL|VOXEL)_(SIZE_)?TOLERANCE", name):
                found.add(f"{module.name}:{line} {name}")
    return sorted(found)


def renames(modules: list[Module]) -> list[str]:
    """Renames of a file that was written aside (``os.replace``, ``os.rename``, ``Path.replace``, ``shutil.move`` of something named part, partial, temporary
    or new) outside ``atomic.py``."""
    found = []
    for module, node in _each(modules, ast.Call):
        name = _called(node)
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        source = ast.unparse(node.args[0]) if node.args and owner in {"os", "shutil"} else owner
        moves = (owner == "os" and name in {"replace", "rename"}) or (owner == "shutil" and name == "move")
        moves = moves or (name in {"replace", "rename"} and len(node.args) == 1 and not node.keywords)  # Path's: str.replace has two
        if moves and re.search(r"part|temp|tmp|\bnew", source) and not module.name.endswith("/atomic.py"):
            found.append(_at(module, node))
    return found


def record_mechanisms(modules: list[Module]) -> list[str]:
    """Modules that store unfinished work and read it back by themselves: one that both writes and reads arrays, tables, JSON or checkpoints, where an
    identifier or key says how far the work is (``done``, ``finished``, ``stages``, ``find_checkpoint``). One that keeps its work as the stages or checkpoints
    of a ``RunRecord`` that it is given has no mechanism of its own."""
    found = []
    for module in modules:
        if any(isinstance(node, ast.ImportFrom) and "RunRecord" in {item.name for item in node.names} for node in module.tree.body):
            continue
        calls = _calls(module.tree)
        words = {node.id for node in module.nodes if isinstance(node, ast.Name)} | {
            node.arg for node in module.nodes if isinstance(node, ast.keyword)} | {
            node.value for node in module.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)} | {
            node.name for node in module.nodes if isinstance(node, (*_FUNCTIONS, ast.ClassDef))}
        if (calls & _STORED and calls & _READ_BACK and words & {"done", "finished", "stages", "done.u8"}) or "find_checkpoint" in _defined(module):
            found.append(module.name)
        elif any({"save", "load"} <= _methods(node) and "done" in _fields(node) for node in module.nodes if isinstance(node, ast.ClassDef)):
            found.append(module.name)
    return found


# ---------------------------------------------------------------- signatures ----------------------------------------------------------------


def positional_calls(modules: list[Module]) -> list[str]:
    """Calls with more than six positional arguments, but for functions that take any number."""
    return [_at(module, node) for module, node in _each(modules, ast.Call) if len(node.args) > MOST_POSITIONAL and _called(node) not in _VARIADIC]


def long_signatures(modules: list[Module]) -> list[str]:
    """Public functions and methods (and ``__init__``) with more than eight parameters, ``self`` and ``cls`` not counted."""
    found = []
    for module, node in _each(modules, _FUNCTIONS):
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([item for item in given if item.arg not in {"self", "cls"}]) + (node.args.vararg is not None) + (node.args.kwarg is not None)
        if count > MOST_PARAMETERS and (not node.name.startswith("_") or node.name == "__init__"):
            found.append(f"{_at(module, node)} {count}")
    return found


def long_modules(modules: list[Module]) -> list[str]:
    """Modules of more than 300 lines."""
    return [f"{module.name} {module.lines}" for module in modules if module.lines > MOST_LINES]


# ---------------------------------------------------------------- size and likeness ----------------------------------------------------------------


def lines(modules: list[Module]) -> int:
    """All lines of the product."""
    return sum(module.lines for module in modules)


def code_lines(modules: list[Module]) -> int:
    """Lines that hold code: without blank lines, comments and docstrings."""
    return sum(len(_code_lines(module)) for module in modules)


def same_shape(modules: list[Module]) -> list[str]:
    """Pairs of functions of the same shape whose bodies have more than ten lines of code.

    The shape is the sequence of syntax nodes without names and values, as runs of four nodes; two have the same one when they share more than half of their
    runs (2 x shared / (runs of one + runs of the other)), so that renamed variables and inserted lines hide nothing. ``_defineParams``, which is a list of
    declarations, is left out. A function and one inside it are no pair.
    """
    shapes = []
    for module in modules:
        code = _code_lines(module)
        for node in module.nodes:
            if isinstance(node, _FUNCTIONS) and node.name != "_defineParams":
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                if body and sum(body[0].lineno <= line <= (body[-1].end_lineno or 0) for line in code) > SAME_SHAPE_LINES:
                    shapes.append((module, node, _runs(body)))
    found = []
    for index, (module, node, runs) in enumerate(shapes):
        for other, second, others in shapes[index + 1 :]:
            if module is other and second in ast.walk(node):
                continue
            total = runs.total() + others.total()
            if min(runs.total(), others.total()) * 4 > total * _SAME_SHARE:  # else half in common is out of reach
                share = 2 * (runs & others).total() / total
                if share > _SAME_SHARE:
                    found.append(f"{_at(module, node)}, {_at(other, second)}: {100 * share:.0f} %")
    return found


def _runs(body: list[ast.stmt]) -> Counter[tuple[str, ...]]:
    """Runs of four syntax nodes, in the order of the text."""
    kinds: list[str] = []

    def walk(node: ast.AST) -> None:
        kinds.append(type(node).__name__)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.expr_context):
                walk(child)

    for statement in body:
        walk(statement)
    return Counter(tuple(kinds[start : start + 4]) for start in range(len(kinds) - 3))


_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def _code_lines(module: Module) -> set[int]:
    """Numbers of the lines that hold code."""
    documented: set[int] = set()
    for node in module.nodes:
        if isinstance(node, (ast.Module, ast.ClassDef, *_FUNCTIONS)) and ast.get_docstring(node, clean=False) is not None:
            documented |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type not in _LAYOUT and token.start[0] not in documented:
            found |= set(range(token.start[0], token.end[0] + 1))
    return found


# ---------------------------------------------------------------- syntax trees ----------------------------------------------------------------


def _each(modules: list[Module], kinds: type | tuple[type, ...]) -> Iterator[tuple[Module, ast.AST]]:
    for module in modules:
        for node in module.nodes:
            if isinstance(node, kinds):
                yield module, node


def _at(module: Module, node: ast.AST) -> str:
    return f"{module.name}:{node.lineno} {getattr(node, 'name', '') or ast.unparse(getattr(node, 'func', node))}"


def _called(call: ast.Call) -> str:
    """Last part of the name that is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _calls(tree: ast.AST) -> set[str]:
    return {_called(node) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def _defined(module: Module) -> set[str]:
    return {node.name for node in module.tree.body if isinstance(node, (*_FUNCTIONS, ast.ClassDef))}


def _methods(node: ast.ClassDef) -> set[str]:
    return {item.name for item in node.body if isinstance(item, _FUNCTIONS)}


def _fields(node: ast.ClassDef) -> set[str]:
    return {item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)}


def _inside_class(module: Module, node: ast.AST) -> bool:
    return any(node in owner.body for owner in module.nodes if isinstance(owner, ast.ClassDef))


def _mixes(node: ast.BinOp) -> bool:
    """``(1 - f) * a + f * b``."""
    return bool(re.fullmatch(r"\(1(\.0)? - (\w+(?:\.\w+)*)\) \* .+ \+ \2 \* .+", ast.unparse(node)))


def _below(call: ast.Call) -> bool:
    """The call looks at ``curve < threshold``."""
    for node in (item for part in (*call.args, call.func) for item in ast.walk(part)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Lt, ast.LtE)):
            limit, left = ast.unparse(node.comparators[0]), ast.unparse(node.left)
            if re.search("curve|fsc|correlation|kept", left) and (re.search("threshold|lost|agreed", limit, re.I) or re.fullmatch(r"0(\.\d+)?", limit)):
                return True
    return False


def _is_tolerance(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, float) and 1e-4 <= node.value <= 0.05
