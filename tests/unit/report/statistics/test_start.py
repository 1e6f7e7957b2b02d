"""The statistics cost nothing before they are used."""

from __future__ import annotations

import ast
from pathlib import Path

from peftlab.report import statistics


def test_nothing_heavy_is_imported_on_top():
    for file in Path(statistics.__path__[0]).glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {"scipy", "sklearn", "torch", "pandas"}, file
