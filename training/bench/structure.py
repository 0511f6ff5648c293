"""Counts that describe the code's structure: `python -m training.bench.structure [REVISION]`.

Files in the fullest folders, the longest functions, and public names that two or more modules define. Circles and
layers are kept by tests/test_imports.py.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
from collections import Counter, defaultdict
from pathlib import PurePosixPath

PACKAGES = ("engine", "studio", "training")
SHOWN = 8  # rows of each list


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def longest_functions(trees: dict[str, ast.Module]) -> list[tuple[int, str]]:
    """(lines, "file:function") of every function, longest first."""
    found = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{name}:{node.name}")
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted(found, reverse=True)


def repeated_names(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Public functions and classes at the top of two or more modules, `main` aside, with the files."""
    where: dict[str, list[str]] = defaultdict(list)
    for name, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_" and node.name != "main":
                where[node.name].append(name)
    return {name: files for name, files in where.items() if len(files) > 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?", default="HEAD", help="a commit (default HEAD)")
    revision = parser.parse_args().revision
    files = _git("ls-tree", "-r", "--name-only", revision).splitlines()
    code = [f for f in files if f.endswith(".py") and f.split("/")[0] in PACKAGES]
    trees = {f: ast.parse(_git("show", f"{revision}:{f}")) for f in code}
    for folder, count in Counter(str(PurePosixPath(f).parent) for f in files).most_common(SHOWN):
        print(f"{count:4} files in {folder}")
    for lines, name in longest_functions(trees)[:SHOWN]:
        print(f"{lines:4} lines of {name}")
    repeated = repeated_names(trees)
    print(f"{len(repeated):4} names in two or more modules: {', '.join(sorted(repeated))}")


if __name__ == "__main__":
    main()
