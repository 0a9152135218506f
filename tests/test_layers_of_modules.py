"""That no module imports one that is built on it."""

import ast
import pathlib

import pytest

import fedlearn

pytestmark = pytest.mark.backend_free

PACKAGE = pathlib.Path(fedlearn.__file__).parent

# Imports inside a function of what is built on the importing module, which
# would be a circle at the top of the file. A method that offers what is
# implemented above it is worth one; no other is.
OFFERED_FROM_ABOVE = {
    ("fedlearn.process", "fedlearn.training"),  # process.fit
    ("fedlearn.process", "fedlearn.runs.process_summary"),  # process.summary
    ("fedlearn.aggregators.aggregator", "fedlearn.privacy"),  # .guarantee
    ("fedlearn.privacy.plan", "fedlearn.aggregators"),  # plan.aggregator
    ("fedlearn.privacy.plan", "fedlearn.process"),  # bytes of the plan
    ("fedlearn.privacy.plan", "fedlearn.runs.process_summary"),
    ("fedlearn.runs.run_privacy", "fedlearn.privacy"),
    ("fedlearn.clients.local_training", "fedlearn.clients.private_trainer"),
    ("fedlearn.cli.task", "fedlearn.cli.own_data"),
    ("fedlearn.cli.run_folder", "fedlearn.cli.train"),
    ("fedlearn.cli.train", "fedlearn.cli.history_file"),
}


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


def test_few_imports_in_functions_are_there_for_the_lack_of_a_circle():
    graph = _graph(in_functions=False)
    closing = {
        (module, imported)
        for module, found in _graph(in_functions=True).items()
        for imported in found - graph[module]
        if (module, imported)
        in _circles({**graph, module: graph[module] | {imported}})
    }
    assert closing - OFFERED_FROM_ABOVE == set()


def test_the_top_of_the_package_can_be_read_at_a_glance():
    assert len(list(PACKAGE.glob("*.py"))) <= 10
