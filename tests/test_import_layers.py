"""Who imports whom in the package: only lower layers, and nobody in a circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffusion_policy

ROOT = Path(diffusion_policy.__file__).resolve().parent
ANYTHING = ("",)

# A part of the package -> what it may import, by beginnings of names below `diffusion_policy`.
# Of the parts that fit a module the longest decides.
ALLOWED: dict[str, tuple[str, ...]] = {
    "common": ("common", "codecs"),
    "codecs": ("codecs",),
    "shared_memory": ("shared_memory", "common"),
    "model": ("common", "model"),
    "gym_util": ("common", "gym_util"),
    "env": ("common", "env"),
    "policy": ("common", "model", "policy"),
    "dataset": ("common", "codecs", "model.common.normalizer", "dataset"),
    "real_world": ("common", "shared_memory", "real_world"),
    "env_runner": ("common", "gym_util", "policy.base_policy", "env_runner"),
    "workspace": ("common", "model.common", "model.diffusion.ema_model", "policy.base_policy", "workspace"),
    "config": (),
    "cli": ANYTHING,
    "compat": ANYTHING,
    "scripts": ANYTHING,
    "": ("policy.load_policy",),  # diffusion_policy/__init__.py: what users reach all else through
}
FREE = {"diffusion_policy.__version__", "diffusion_policy.__file__"}  # known before any module is imported


def module_name(path: Path) -> str:
    """Name below `diffusion_policy`, '' for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_below(name: str, part: str) -> bool:
    return part == "" or name == part or name.startswith(f"{part}.")


def modules() -> dict[str, ast.Module]:
    return {module_name(path): ast.parse(path.read_text(), str(path)) for path in sorted(ROOT.rglob("*.py"))}


def imported_names(name: str, tree: ast.Module, is_package: bool) -> Iterator[tuple[str, bool]]:
    """Full dotted names that a module imports, those inside functions too, and whether at its top level."""
    top_level = {id(node) for node in _outside_functions(tree)}
    for node in ast.walk(tree):
        at_top = id(node) in top_level
        if isinstance(node, ast.Import):
            for alias in node.names:
                used = _attributes(tree) if alias.name == "diffusion_policy" else [alias.name]
                yield from ((imported, at_top) for imported in used)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = f"diffusion_policy.{name}".rstrip(".").split(".")
                keep = len(here) - node.level + is_package
                base = ".".join([*here[:keep], *filter(None, [base])])
            for alias in node.names:
                yield f"{base}.{alias.name}", at_top


def _attributes(tree: ast.Module) -> list[str]:
    """What a module uses of `diffusion_policy` after `import diffusion_policy`."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "diffusion_policy"
    ]


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run on import; not those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _outside_functions(child)


def import_graph(trees: dict[str, ast.Module], packages: set[str]) -> dict[str, dict[str, bool]]:
    """For every module those of ours that it imports, and whether on import or only in a function."""
    graph: dict[str, dict[str, bool]] = {}
    for name, tree in trees.items():
        arrows = graph.setdefault(name, {})
        for imported, at_top in imported_names(name, tree, name in packages):
            if is_below(imported, "diffusion_policy") and imported not in FREE:
                target = _module_of(imported.removeprefix("diffusion_policy").lstrip("."), trees)
                if target != name:
                    arrows[target] = arrows.get(target, False) or at_top
    return graph


def _module_of(imported: str, trees: dict[str, ast.Module]) -> str:
    """The module that an imported name is or lies in."""
    while imported not in trees:
        imported = imported.rpartition(".")[0]
    return imported


def forbidden_arrows(graph: dict[str, dict[str, bool]]) -> list[str]:
    forbidden = []
    for name, arrows in graph.items():
        part = max((part for part in ALLOWED if is_below(name, part)), key=len)
        if part == "" and name != "":
            forbidden.append(f"{name} belongs to no layer: add it to ALLOWED and to the design")
            continue
        for target in arrows:
            if not any(is_below(target, allowed) for allowed in ALLOWED[part]):
                forbidden.append(f"{name} -> {target}")
    return forbidden


def cycles(graph: dict[str, dict[str, bool]]) -> list[str]:
    """Circles of imports, those inside functions included, each named once by its members."""
    found: set[frozenset[str]] = set()

    def visit(name: str, path: list[str], done: set[str]) -> None:
        if name in path:
            found.add(frozenset(path[path.index(name) :]))
            return
        if name in done:
            return
        for target in graph.get(name, {}):
            visit(target, [*path, name], done)
        done.add(name)

    done: set[str] = set()
    for name in graph:
        visit(name, [], done)
    return [" <-> ".join(sorted(members)) for members in found]


@pytest.fixture(scope="module")
def graph() -> dict[str, dict[str, bool]]:
    packages = {module_name(path) for path in ROOT.rglob("__init__.py")}
    return import_graph(modules(), packages)


def test_every_arrow_is_allowed(graph):
    assert set(forbidden_arrows(graph)) == set()


def test_no_modules_import_each_other(graph):
    assert cycles(graph) == []


def test_the_graph_is_that_of_the_package(graph):
    """Guards the checks above against an empty graph."""
    assert len(graph) > 30
    assert graph["policy.diffusion_policy"]["policy.base_policy"] is True
    assert graph["model.diffusion.samplers"].keys() == {"common.noise", "model.diffusion.noise_schedule"}
    assert graph["cli"]["workspace.train_workspace"] is False  # inside a function


# The checks can fail


def graph_of(**sources: str) -> dict[str, dict[str, bool]]:
    trees = {name.replace("__", "."): ast.parse(source) for name, source in sources.items()}
    return import_graph({"": ast.parse(""), **trees}, {""})


@pytest.mark.parametrize(
    "source",
    [
        "import diffusion_policy.env.pusht",
        "from diffusion_policy.env import pusht",
        "from diffusion_policy.env.pusht import PushTEnv",
        "from ..env.pusht import PushTEnv",
        "from ..env import pusht",
        "def f():\n    from diffusion_policy.env.pusht import PushTEnv",
        "class A:\n    def f(self):\n        import diffusion_policy.env.pusht",
        "try:\n    import diffusion_policy.env.pusht\nexcept ImportError: pass",
    ],
)
def test_a_sideways_import_is_noticed(source):
    graph = graph_of(policy__new=source, env="", env__pusht="")
    assert [arrow.split(".pusht")[0] for arrow in forbidden_arrows(graph)] == ["policy.new -> env"]


def test_names_that_only_begin_alike_are_other_layers():
    graph = graph_of(env__new="import diffusion_policy.env_runner.report", env_runner__report="")
    assert forbidden_arrows(graph) == ["env.new -> env_runner.report"]


@pytest.mark.parametrize(
    "call", ["from diffusion_policy import {}", "import diffusion_policy\ndiffusion_policy.{}"]
)
def test_the_package_gives_its_version_to_all_and_load_policy_to_the_top_only(call):
    assert forbidden_arrows(graph_of(common__new=call.format("__version__"))) == []
    assert forbidden_arrows(graph_of(common__new=call.format("load_policy"))) == ["common.new -> "]
    assert forbidden_arrows(graph_of(cli=call.format("load_policy"))) == []


def test_a_part_without_a_layer_is_noticed():
    assert "belongs to no layer" in forbidden_arrows(graph_of(utils="import os"))[0]


def test_a_circle_is_noticed_also_through_a_function():
    sources = {
        "common__a": "import diffusion_policy.common.b",
        "common__b": "from diffusion_policy.common import c",
        "common__c": "def f():\n    from diffusion_policy.common.a import x",
    }
    assert cycles(graph_of(**sources, common="")) == ["common.a <-> common.b <-> common.c"]
