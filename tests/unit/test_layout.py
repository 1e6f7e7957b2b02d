"""The sizes of what is in the package: a module is read at one sitting, and a class says one thing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import peftlab

ROOT = Path(peftlab.__path__[0])
MODULES = sorted(ROOT.rglob("*.py"))
LONGEST_MODULE, LONGEST_CLASS = 450, 250
"""Lines."""


def test_no_module_is_too_long():
    lines = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in MODULES}
    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}


@pytest.mark.slow
def test_no_class_is_too_long():
    long = {}
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_CLASS:
                    long[f"{file.relative_to(ROOT)}: {node.name}"] = lines
    assert long == {}


def test_no_file_is_named_for_no_job():
    assert not {file.stem for file in MODULES} & {"utils", "helpers", "common", "base", "core", "misc"}


def test_every_folder_says_what_it_is_for():
    for file in ROOT.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), file
