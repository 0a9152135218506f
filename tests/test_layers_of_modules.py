"""That no module imports one that is built on it."""

import ast
import pathlib

import pytest

import fedlearn

pytestmark = pytest.mark.backend_free

PACKAGE = pathlib.Path(fedlearn.__file__).parent


def _name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {
    _name(path): ast.parse(path.read_text("utf-8"))
    for path in PACKAGE.rglob("*.py")
}


def _imports(nodes, in_functions):
    """Modules that are imported at run time, by their names."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and not in_functions:
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _imports(node.orelse, in_functions)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in TREES else node.module
        else:
            yield from _imports(ast.iter_child_nodes(node), in_functions)


def _graph(in_functions):
    return {
        module: set(_imports(tree.body, in_functions)) & set(TREES) - {module}
        for module, tree in TREES.items()
    }


def _circles(graph):
    """Edges between modules from each of which the other is reached."""
    reached = {}
    for start in graph:
        seen, waiting = set(), [start]
        while waiting:
            for module in graph[waiting.pop()] - seen:
                seen.add(module)
                waiting.append(module)
        reached[start] = seen
    return {(a, b) for a in graph for b in graph[a] if a in reached[b]}


def test_no_circle_of_imports():
    assert _circles(_graph(in_functions=False)) == set()


def test_no_import_in_a_function_is_there_to_dodge_a_circle():
    graph = _graph(in_functions=False)
    closing = {
        (module, imported)
        for module, found in _graph(in_functions=True).items()
        for imported in found - graph[module]
        if (module, imported)
        in _circles({**graph, module: graph[module] | {imported}})
    }
    assert closing == set()


def test_the_top_of_the_package_can_be_read_at_a_glance():
    assert len(list(PACKAGE.glob("*.py"))) <= 10
