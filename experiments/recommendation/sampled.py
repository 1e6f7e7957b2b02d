"""What sampling does to a comparison: hit@10 of three baselines among all items, and among 99 that are sampled."""

from __future__ import annotations

import numpy as np

from peftlab.composing.compose import compose
from peftlab.config import resolve, validate
from peftlab.data.splits import split_files
from peftlab.recommending.baselines import item_knn, popularity, tf_idf


def main() -> None:
    """Print a table, Markdown."""
    spec = validate(resolve(compose("+experiment=recommend_films", "data.format.cold_items=0", "logger=[]"))).data
    fetched = spec.source.fetch()
    files = split_files(spec.splits, fetched, folders=True)
    splits = spec.format.read({split: fetched.file(str(file)) for split, file in files.items()})
    test, catalogue = splits["test"], splits["test"][0].catalogue
    histories, items = [one.history for one in test], np.arange(len(catalogue.items))
    print("| hit@10 | among all unseen items | all items, seen ones too | 99 sampled ones |\n|---|---|---|---|")
    for name, make in {"popularity": popularity, "item-kNN, all neighbours": item_knn, "TF-IDF": tf_idf}.items():
        options = {"neighbours": None} if make is item_knn else {}
        all_scores, random = make(histories, catalogue, **options)(histories), np.random.default_rng(0)
        hits = np.zeros(3)
        for one, scores in zip(test, all_scores, strict=True):
            unseen = np.setdiff1d(items, [*one.history, one.item])
            pools = [unseen, np.setdiff1d(items, [one.item]), random.choice(unseen, 99, replace=False)]
            hits += [(scores[pool] >= scores[one.item]).sum() < 10 for pool in pools]
        print(f"| {name} | {' | '.join(f'{hit / len(test):.3f}' for hit in hits)} |")


if __name__ == "__main__":
    main()
