"""Count listed words in documents, messages and comments: `python -m training.bench.words [REVISION] [--list]`.

Four kinds of text: documents (README, CHANGELOG, docs/, model cards), strings of the code (page texts, errors, help of
the command line), docstrings, and comments. Identifiers are not counted.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tarfile
import tokenize
from collections import Counter
from collections.abc import Iterator

WORDS = ("anew", "shall", "told", "asked", "heard", "said", "judge", "book", "wish")
PACKAGES = ("app.py", "engine/", "studio/", "training/", "tests/")
_DOCUMENTS = re.compile(r"(README|CHANGELOG|CONTRIBUTING)\.md|docs/[\w-]+\.md|checkpoints/[^/]+/MODEL_CARD\.md")
_WORD = re.compile(rf"(?<![\w`-])({'|'.join(WORDS)})s?(?![\w`(=-])", re.IGNORECASE)


def texts(name: str, source: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of the prose in a file."""
    if _DOCUMENTS.fullmatch(name):
        yield "documents", source
    elif name.endswith((".html", ".js")) and name.startswith("studio/"):
        yield from (
            ("strings", found)
            for found in re.findall(r">([^<>{}]+)<|[`'\"]([A-Z][^`'\"]{8,})[`'\"]", source)
            for found in found
            if found
        )
    elif name.endswith(".py") and name.startswith(PACKAGES):
        yield from _of_python(source)


def _of_python(source: str) -> Iterator[tuple[str, str]]:
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, documented) and ast.get_docstring(n)}  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in docs:
                yield "docstrings", node.value
            elif " " in node.value:
                yield "strings", node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield "comments", token.string


def files_of(revision: str) -> Iterator[tuple[str, str]]:
    """(name, text) of the documents, code and page files of a commit."""
    data = subprocess.run(["git", "archive", revision], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            if entry.isfile() and entry.name.endswith((".py", ".md", ".html", ".js")):
                file = archive.extractfile(entry)
                assert file is not None
                yield entry.name, file.read().decode("utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?", default="HEAD", help="a commit (default HEAD)")
    parser.add_argument("--list", action="store_true", help="print every hit with its line")
    arguments = parser.parse_args()
    count: dict[str, Counter[str]] = {kind: Counter() for kind in ("documents", "strings", "docstrings", "comments")}
    for name, source in files_of(arguments.revision):
        for kind, text in texts(name, source):
            for found in _WORD.finditer(text):
                count[kind][found[1].lower()] += 1
                if arguments.list:
                    line = text[text.rfind("\n", 0, found.start()) + 1 :].split("\n")[0]
                    print(f"{kind:10} {name}: {line.strip()[:150]}")
    print(f"{'':10}  " + "  ".join(f"{word:>6}" for word in WORDS) + "     sum")
    for kind, words in count.items():
        print(f"{kind:10}  " + "  ".join(f"{words[word]:6}" for word in WORDS) + f"  {sum(words.values()):6}")


if __name__ == "__main__":
    main()
