"""Where modules come from: nothing from the current folder that is not named."""

from __future__ import annotations

import importlib
import re
import runpy
import sys
from pathlib import Path

import pytest

import peftlab
from peftlab.imports import find_here, imports_from_here, stop_finding_here, to_be_found_here


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Stand in a folder with packages and modules, which is no place to import from."""
    (tmp_path / "mine_here" / "inner").mkdir(parents=True)
    (tmp_path / "mine_here" / "__init__.py").write_text("")
    (tmp_path / "mine_here" / "inner" / "__init__.py").write_text("from mine_here import part")
    (tmp_path / "mine_here" / "part.py").write_text("")
    for name in ("beside_here", "mine_here_too", "seqeval", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    importlib.invalidate_caches()


def test_a_package_that_is_named_is_found_with_all_its_modules(here):
    find_here(["mine_here"])
    importlib.import_module("mine_here.inner")
    assert sys.modules["mine_here.part"].__file__ == str(Path("mine_here", "part.py").absolute())
    assert to_be_found_here() == ["mine_here"]


def test_finders_that_libraries_install_meanwhile_stay(here):
    find_here(["mine_before"])
    before, library = [*sys.meta_path], object()
    find_here(["mine_here"])
    sys.meta_path.append(library)
    stop_finding_here(before)
    assert sys.meta_path == [*before, library]


@pytest.mark.parametrize("name", ["beside_here", "mine_here_too", "mine_here.beside_here", "mine_here.json"])
def test_nothing_beside_it_is(here, name):
    find_here(["mine_here"])
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)


def test_what_is_installed_comes_first(here):
    sys.modules.pop("json")
    find_here(["json", "seqeval"])
    assert "imported" not in str(importlib.import_module("json").loads("1"))


def test_it_may_be_said_again(here):
    find_here(["mine_here"])
    finders = [*sys.meta_path]
    find_here(["mine_here"])
    assert sys.meta_path == finders


def test_whether_modules_come_from_here(here, monkeypatch):
    assert not imports_from_here()
    for entry in ("", str(Path.cwd())):
        monkeypatch.setattr(sys, "path", [*sys.path, entry])
        assert imports_from_here()
        sys.path.pop()


def test_windows_is_told_at_once(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ImportError, match="Linux and macOS"):
        runpy.run_path(peftlab.__file__)


def test_without_names_nothing_changes(here):
    finders = [*sys.meta_path]
    find_here([])
    assert sys.meta_path == finders


def test_no_process_that_is_started_has_the_current_folder_among_what_it_imports_from():
    for file in Path(peftlab.__file__).parent.rglob("*.py"):
        for options in re.findall(r"sys\.executable, (.*)", file.read_text(encoding="utf-8")):
            assert options.startswith('"-P"'), file
