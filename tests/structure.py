"""Counts what makes a house of modules hard to read: ``python -m tests.structure [TREE]``.

TREE is the root of any checkout of this project, this one if it is left out.  Imports under
TYPE_CHECKING count as all others.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grimp
import networkx

PACKAGE = "harness"


def measure(tree: Path, package: str = PACKAGE) -> dict[str, int]:
    """Count entries, modules, circles and imports that run back up in a package of a checkout."""
    sys.path.insert(0, str(tree))
    try:
        graph = grimp.build_graph(package, cache_dir=None)
    finally:
        sys.path.remove(str(tree))
    parents = {name.rpartition(".")[0] for name in graph.modules} - {""}
    arrows = networkx.DiGraph(
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    )
    circles = [found for found in networkx.strongly_connected_components(arrows) if len(found) > 1]
    return {
        "entries at the top": len(graph.find_children(package)),
        "modules": len(graph.modules - parents),
        "imports": arrows.number_of_edges(),
        "circles of modules": len(circles),
        "modules in circles": sum(map(len, circles)),
        # The fewest found whose absence leaves no circle among the children of any package.
        "imports that run back up": sum(
            len(graph.nominate_cycle_breakers(parent)) for parent in parents
        ),
    }


if __name__ == "__main__":
    tree = Path(sys.argv[1] if len(sys.argv) > 1 else __file__.rpartition("/tests/")[0]).resolve()
    if not (tree / PACKAGE / "__init__.py").is_file():
        sys.exit(f"{tree} holds no package {PACKAGE}: give the root of a checkout.")
    for what, count in measure(tree).items():
        print(f"{count:6d}  {what}")
