"""The README is true where a test can tell; its commands are run in ``tests/slow/test_readme.py``."""

import re
from pathlib import Path

from peftlab.exits import conf_dir

ROOT = conf_dir().parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", README, re.DOTALL)


def test_set_up_is_exactly_two_commands():
    first, second = blocks()[:2]
    for command in (first, second):
        assert command.count("\n") == 1
        assert "-c requirements.lock" in command
    assert first.strip().endswith("python -m train +experiment=ner_lora")
    assert second.strip().endswith("python -m pytest -n 2")
    assert "venv" in first
    assert "venv" in second


def test_continuous_integration_runs_the_second():
    assert blocks()[1].strip() in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_layout_names_files_that_exist():
    layout = re.search(r"## The layout\n\n```\n(.*?)```", README, re.DOTALL)
    assert layout
    names = re.findall(r"^(?:src/peftlab/)?\s*([\w/.]+?)(?: {2,}|\n)", layout[1], re.MULTILINE)
    missing = [n for n in names if not any((base / n).exists() for base in (ROOT, ROOT / "src" / "peftlab"))]
    assert not missing


def test_no_option_is_promised_that_is_not_there():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for group, options in re.findall(r"`(\w+)` \(([\w, \n]+)\)", changelog):
        if (ROOT / "conf" / group).is_dir():
            for option in re.split(r",\s*", options):
                assert Path(ROOT / "conf" / group / f"{option.strip()}.yaml").is_file(), (group, option)
