"""Augments 10,000 sentences of CoNLL-2003 by every word-level augmentation, and counts gold entities that changed.

Run `python experiments/augmentation/gold_kept.py`. An entity has changed if its type, its place in the order of its
sentence or its words did; `mention` may put other words of the same type there, which must be those of an entity of the
training split.
"""

from __future__ import annotations

import random
from functools import partial

from hydra import compose, initialize_config_dir

from peftlab.composing.compose import conf_dir
from peftlab.config import resolve, validate
from peftlab.data.augmentation.augmenter import Augmenter
from peftlab.data.splits import split_files
from peftlab.models.backbone import fetch
from peftlab.scores.bio import entities
from peftlab.tasks.inputs.words import Sentence

SENTENCES = 10_000
ALONE = ["synonym", "swap", "delete", "insert", "typo", "mask", "context", "mention"]


def gold(sentence: Sentence) -> list[tuple[str, tuple[str, ...]]]:
    """Return type and words of each entity of a sentence."""
    return [(e.type, tuple(sentence.words[e.start : e.end])) for e in entities(sentence.tags)]


def main() -> None:
    """Print the counts."""
    options = [f"augment=[{','.join(ALONE)}]", *(f"augment.{name}.share=1" for name in ALONE), "trainer=cpu"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        spec = validate(resolve(compose("config", overrides=options)))
    fetched = spec.data.source.fetch()
    files = split_files(spec.data.splits, fetched, folders=False)
    splits = spec.data.format.read({split: fetched.file(file) for split, file in files.items()})
    spec.task.learn_labels(splits, None)
    sentences = random.Random(0).sample(splits["train"], SENTENCES)
    pool = {entity for sentence in splits["train"] for entity in gold(sentence)}
    model = fetch(spec.model)
    embeddings = partial(model.input_embeddings, spec.task)
    for names in [*([name] for name in ALONE), ALONE]:
        chosen = {name: spec.augment[name] for name in names}
        augmenter = Augmenter(chosen, spec.task, model.processor("tokenizer"), spec.data.limits, 0, embeddings)
        augmenter.prepare(sentences)
        changed, faults, count = 0, 0, 0
        for sentence in sentences:
            edited = augmenter.example(sentence, 0)
            changed += edited is not sentence
            before, after = gold(sentence), gold(edited)
            count += len(before)
            kept = [kind for kind, _ in before] == [kind for kind, _ in after]
            kept &= set(after) <= pool if "mention" in names else before == after
            faults += not kept
        print(f"{'+'.join(names)}: {changed:,} of {SENTENCES:,} changed, {count:,} entities, {faults} at fault")


if __name__ == "__main__":
    main()
