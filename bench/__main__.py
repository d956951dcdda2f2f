"""`python3 -m service bench` lists the benches, `python3 -m service bench NAME [words]` runs one."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent


def names() -> dict[str, str]:
    """Each bench with the first line of what it says of itself."""
    found = {p.stem: ast.get_docstring(ast.parse(p.read_text())) or "" for p in sorted(HERE.glob("[a-z]*.py"))}
    return {name: text.split("\n")[0] for name, text in found.items()}


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in names():
        # not by runpy: what a bench starts by `spawn` would import the bench again if that were the main module
        sys.argv[0] = name = sys.argv.pop(1)
        importlib.import_module(f"bench.{name}").main()
        return
    print("python3 -m service bench NAME [--help]")
    for name, text in names().items():
        print(f"  {name:14} {text}")
    sys.exit(0 if len(sys.argv) == 1 else 2)


if __name__ == "__main__":
    main()
