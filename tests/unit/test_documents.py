"""README and docs are true where a test can tell; their commands are run in ``tests/slow/test_documents.py``."""

import re
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from peftlab.composing.compose import conf_dir

ROOT = conf_dir().parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("experiments/**/*.md")]
)


def blocks() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", README, re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_set_up_is_exactly_two_commands():
    first, second = blocks()[:2]
    for command in (first, second):
        assert command.count("\n") == 1
        assert "-c requirements.lock" in command
    assert first.strip().endswith(".venv/bin/peftlab train +experiment=ner_lora")
    assert second.strip().endswith("python -m pytest -n 2")
    assert "venv" in first
    assert "venv" in second


def test_continuous_integration_runs_the_second():
    assert blocks()[1].strip() in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_readme_is_short():
    assert len(README.encode()) <= 10_000


def test_the_readme_leads_to_every_page():
    assert set(re.findall(r"\]\(docs/(\w[\w-]*\.md)", README)) == {page.name for page in ROOT.glob("docs/*.md")}


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), (page, target)
            assert not anchor or anchor in anchors(file), (page, target)


def test_no_section_is_empty():
    """A heading is followed by text, or by the heading of a part of its section."""
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "a block", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        lines = [line for line in text.splitlines() if line.strip()]
        levels = [len(line) - len(line.lstrip("#")) if re.match("#+ ", line) else 0 for line in lines]
        for line, level, after in zip(lines, levels, [*levels[1:], 1], strict=True):
            assert not 0 < after <= level, (page, line)


def test_the_layout_names_files_that_exist():
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    layout = re.search(r"## The layout\n\n```\n(.*?)```", design, re.DOTALL)
    assert layout
    names = re.findall(r"^(?:src/peftlab/)?\s*([\w/.]+?)(?: {2,}|\n)", layout[1], re.MULTILINE)
    missing = [n for n in names if not any((base / n).exists() for base in (ROOT, ROOT / "src" / "peftlab"))]
    assert not missing


def test_methods_and_models_are_counted():
    of_hub = [file for file in conf_dir().glob("model/*.yaml") if ".HubSource" in file.read_text(encoding="utf-8")]
    assert f"any of {len(list(conf_dir().glob('peft/*.yaml')))} methods" in README
    assert f"{len(of_hub)} of the Hugging Face Hub" in README


def test_no_option_is_promised_that_is_not_there():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    promised = re.findall(r"`(\w+)` \(([\w, \n]+)\)", changelog)
    promised += [
        (group, ",".join(re.findall(r"`(\w+)`", row)))
        for group, row in re.findall(r"^\| `(\w+)` \|(.*?)\|", README, re.M)
    ]
    for group, options in promised:
        if (ROOT / "conf" / group).is_dir():
            for option in re.split(r",\s*", options):
                assert Path(ROOT / "conf" / group / f"{option.strip()}.yaml").is_file(), (group, option)


ORIGINS = {"IndexSource": "package index", "HubDataSource": "hub", "FilesSource": "`data.path=`"}
"""How the table of data sets begins to say where one comes from, by the class of its source."""


def test_every_data_set_by_name_is_in_the_table_with_its_licence_and_where_it_comes_from():
    pages = {page.name: page.read_text(encoding="utf-8") for page in ROOT.glob("docs/*.md")}
    table = re.findall(r"^\| (`.*?) \|(.*)\|$", pages["data.md"].partition("## Data sets by name")[2], re.MULTILINE)
    rows = {name: row.split(" | ") for names, row in table for name in re.findall(r"`(\w+)`", names)}
    for file in sorted((conf_dir() / "data").glob("*.yaml")):
        name, option = file.stem, yaml.safe_load(file.read_text(encoding="utf-8"))
        licence = option["source"]["licence"]
        if "path" in option and licence is None:  # the user's own data in some format
            assert name not in rows
            assert any(re.search(rf"`{name}`|\bdata={name}\b", text) for text in pages.values()), name
            continue
        assert name in rows, f"docs/data.md lacks {name}"
        *_, of_table, origin = map(str.strip, rows.pop(name))
        assert of_table.removeprefix("see ") in (licence or "not stated"), name
        assert origin.startswith(ORIGINS[option["source"]["_target_"].rpartition(".")[2]]), name
    assert not rows


def test_what_counters_overfitting_is_set_where_the_readme_says(compose_config):
    table = README.partition("### Against overfitting")[2].partition("\n## ")[0]
    keys = re.findall(r"`(\w+\.[\w.]+)`", table)
    assert {"model.dropout", "optimizer.weight_decay", "callbacks.early_stopping", "data.clean"} <= set(keys)
    config = OmegaConf.to_container(compose_config())
    for key in keys:
        section, _, name = key.partition(".")
        assert name in config[section], key
    page = (ROOT / "docs" / "regularisers.md").read_text(encoding="utf-8")
    section = page.partition("## Early stopping")[2].partition("\n## ")[0]
    stopping = config["callbacks"]["early_stopping"]
    assert f"`patience` ({stopping['patience']})" in section
    assert f"`min_delta` ({stopping['min_delta']})" in section
