"""What the tested runs of a comparison say."""

from __future__ import annotations

from tests.unit.report.sweeps import planned

from peftlab.report.analysis import results
from peftlab.report.analysis.options import Options
from peftlab.report.study import reading


def test_a_run_is_scored_without_each_cluster_once(tmp_path, monkeypatch):
    folder, asked = planned(examples=20).write(tmp_path / "sweep"), []
    known = results.score_of

    def counting(scorer, metric):
        return lambda totals: asked.append(len(totals)) or known(scorer, metric)(totals)

    monkeypatch.setattr(results, "score_of", counting)
    with reading([folder]) as study:
        (result,) = results.analysed(study, Options()).results
    assert asked == [1, result.clusters] * 6
    for row in result.rows:
        assert row.measured.pseudo_values.shape == (3, result.clusters)
        assert row.measured.scores.tolist() == row.measured.pseudo_values.mean(axis=1).tolist()
