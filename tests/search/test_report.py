"""The page about a search, and its pictures."""

from __future__ import annotations

import io
import json
import re
from html import unescape

import numpy as np
import optuna
import pytest
from matplotlib.figure import Figure
from optuna.trial import TrialState, create_trial
from PIL import Image
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metafe import MetaFeatureExtractor
from metafe.backbones import MLP
from metafe.search.attributes import packed
from metafe.search.pictures import held_out_rows, leaderboard, pareto
from metafe.search.report import write_report
from metafe.search.snippet import code_of
from metafe.search.standings import Standing
from metafe.search.view import View

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

LEARNED = {"backbone": "mlp", "backbone__width": 32, "algorithm": "protonet", "tasks": "classes"}
WIDTHS = optuna.distributions.IntDistribution(8, 64)
DEPTHS = optuna.distributions.IntDistribution(1, 3)


def trial(values, *, baseline=None, parameters=LEARNED, state=TrialState.COMPLETE, seed=0, **settings):
    """Return a trial as a search leaves it."""
    scores = np.clip(np.random.default_rng(seed).normal(values[0], 0.05, 30), 0, 1)
    kept = {"parameters": json.dumps(parameters), "seconds": 2.0, "latency": 0.01, "n_features": 64, "n_parameters": 99}
    kept |= {"episode_scores": packed(scores)} | ({} if baseline is None else {"baseline": baseline})
    if state == TrialState.COMPLETE:
        settings["values"] = list(values)
    return create_trial(state=state, user_attrs=kept | settings.pop("user_attrs", {}), **settings)


def failed(message="too <large>"):
    error = {"plugin": "backbone mlp", "type": "MemoryError", "message": message, "traceback": "Traceback: <here>"}
    return create_trial(state=TrialState.FAIL, user_attrs={"error": error})


def make_study(*trials, names=("score",), directions=("maximize",)):
    study = optuna.create_study(directions=list(directions), study_name="synthetic")
    study.set_metric_names(list(names))
    study.add_trials(list(trials))
    return study


def read(study_or_search, folder):
    return write_report(study_or_search, folder).read_text(encoding="utf-8")


def section(html, heading):
    """Return the text of a section without its tags."""
    found = re.search(rf"<h2[^>]*>{heading}</h2>(.*?)</section>", html, re.S)
    return "" if found is None else unescape(re.sub(r"<[^>]+>", "|", found[1]))


@pytest.fixture(scope="module")
def found(brief, blobs):
    return brief(n_trials=9).fit(*blobs)


@pytest.fixture(scope="module")
def written(found, tmp_path_factory):
    """The page about a real search, and its folder."""
    page = found.write_report(tmp_path_factory.mktemp("report") / "new" / "folder")
    return page.read_text(encoding="utf-8"), page.parent


def test_the_page_needs_nothing_but_itself(written):
    html, _ = written
    assert not re.search(r"<script|<link|@import|url\(", html)
    sources = re.findall(r'(?:src|srcset)="([^"]*)"', html)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_every_picture_has_a_text_a_dark_twin_and_a_file(written):
    html, folder = written
    pictures = re.findall(r"<picture>(.*?)</picture>", html)
    files = sorted(path.stem for path in folder.glob("*.png"))
    assert files == ["held-out-rows", "history", "leaderboard", "learning-curves"]
    assert len(pictures) == len(files)
    for picture in pictures:
        assert 'media="(prefers-color-scheme: dark)"' in picture
        assert len(re.search(r'alt="([^"]*)"', picture)[1]) > 20
        assert len(set(re.findall(r"base64,([^\"]*)", picture))) == 2
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 1


def test_the_page_says_what_won_and_by_how_much(found, written):
    html, _ = written
    assert found.verdict_ in unescape(html)
    finalists = section(html, "Finalists")
    assert "judged again on tasks that no trial was chosen by" in finalists
    assert "over classes" in finalists
    for row in found.finalists_:
        assert f"{row.score:.3f} ± {row.interval:.3f}" in finalists
    gains = section(html, "Leaderboard")
    for name in ("standardised rows", "PCA", "LDA", "NCA", "supervised"):
        assert name in gains


def test_the_snippet_makes_the_winner_again(found, written, blobs):
    html, _ = written
    code = unescape(re.search(r"<pre[^>]*><code>(.*?)</code></pre>", html, re.S)[1])
    names = dict(zip("Xy", blobs, strict=True))
    exec(code, names)
    np.testing.assert_array_equal(names["extractor"].transform(blobs[0]), found.transform(blobs[0]))


def test_the_view_is_of_rows_that_training_has_not_seen(found, blobs):
    view = found._view
    assert next(title for title, _ in view.panels) == "standardised rows"
    assert {points.shape for _, points in view.panels} == {(len(view.classes), 2)}
    assert set(view.classes) < set(blobs[1])
    scaled = view.panels[0][1]
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    assert scaled[:, 0].std() >= scaled[:, 1].std() > 0


def test_a_winner_that_was_learned_is_shown_beside_the_rows(brief, found):
    by_label = dict(found._view.panels)
    assert len(by_label) == 2
    assert any(title.endswith(("(winner)", "(best other)")) for title in by_label)


def test_searches_for_a_final_estimator_have_a_page(brief, blobs, tmp_path):
    X, _ = blobs
    y = X @ np.arange(1.0, 7.0) + 0.5
    search = brief(extractor=None, n_trials=2, scoring="r2", final_estimator=Ridge()).fit(X, y)
    html = read(search, tmp_path)
    assert search.verdict_ in unescape(html)
    assert "Ridge()" in section(html, "The winner in Python")
    assert "judged again" not in section(html, "Finalists")
    assert search._view.values is not None


def test_searches_without_labels_have_a_page(brief, blobs, tmp_path):
    search = brief(extractor=None, n_trials=2).fit(blobs[0])
    html = read(search, tmp_path)
    assert search.verdict_ in unescape(html)
    assert section(html, "Held-out rows")


def test_several_objectives_have_a_front(tmp_path):
    study = make_study(
        trial([0.7, 5.0], baseline="PCA"),
        trial([0.9, 500.0]),
        trial([0.6, 900.0], parameters={"backbone": "conv4", "algorithm": "maml", "tasks": "groups"}),
        names=("score", "n_features"),
        directions=("maximize", "minimize"),
    )
    front = section(read(study, tmp_path), "Pareto front")
    assert "PCA" in front
    assert "mlp with protonet on classes" in front
    assert "conv4" not in front
    assert (tmp_path / "pareto.png").is_file()


def test_gains_are_paired_and_over_the_best_baseline(tmp_path):
    study = make_study(trial([0.6], baseline="LDA", seed=3), trial([0.7], baseline="PCA", seed=3), trial([0.8], seed=3))
    rows = section(read(study, tmp_path), "Leaderboard")
    assert "+0.100 (+0.100 to +0.100)" in rows  # the same episodes, each 0.1 better
    assert "+0.200 (+0.200 to +0.200)" in rows


def test_what_decides_is_the_most_important(tmp_path):
    rng = np.random.default_rng(0)
    chosen = [(int(rng.integers(8, 65)), int(rng.integers(1, 4))) for _ in range(40)]
    study = make_study(
        *(
            trial([width / 100], params={"mlp.width": width, "mlp.depth": depth}, distributions=both)
            for width, depth in chosen
            for both in [{"mlp.width": WIDTHS, "mlp.depth": DEPTHS}]
        )
    )
    read(study, tmp_path)
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Importance of parameters: mlp.width 0.9" in html


def test_only_failures_are_grouped_by_cause(tmp_path):
    html = read(make_study(failed(), failed(), failed("other")), tmp_path)
    assert "No trial was completed." in html
    causes = section(html, "Trials that failed or were too slow")
    assert "2 × backbone mlp: MemoryError: too <large>" in causes
    assert "1 × backbone mlp: MemoryError: other" in causes
    assert "<large>" not in html
    assert not list(tmp_path.glob("*.png"))


def test_a_study_without_trials_has_a_page(tmp_path):
    assert "no trials" in read(make_study(), tmp_path)


@pytest.mark.parametrize("baseline", ["PCA", None])
def test_one_trial_is_enough_for_a_page(tmp_path, baseline):
    reports = {0: 0.3, 1: 0.5, 21: 0.7}
    html = read(make_study(trial([0.7], baseline=baseline, intermediate_values=reports)), tmp_path)
    leaderboard = section(html, "Leaderboard")
    assert "0.700" in leaderboard
    assert "mlp.width 32" in leaderboard  # as Optuna calls it
    assert "from 0.300 to 0.500" in html  # the score on the fold is no validation


@pytest.mark.parametrize(
    ("made_by", "named"), [(["PCA", None], ["searched", "baseline"]), (["PCA"], ["baseline"]), ([None], ["searched"])]
)
def test_the_legend_of_the_leaderboard_names_what_is_there(made_by, named):
    rows = [Standing(trial([0.7], baseline=baseline), "a label", 0.7, 0.01, None) for baseline in made_by]
    figure = Figure()
    leaderboard(rows).draw(figure)
    assert figure.axes[0].get_legend_handles_labels()[1] == named


def test_rows_far_out_do_not_crush_the_others():
    points = np.random.default_rng(0).normal(size=(200, 2))
    points[0] = 1000, -1000
    picture = held_out_rows(View((("near", points[1:]), ("far", points)), "rows"))
    assert "stand at the edge" in picture.alt
    figure = Figure()
    picture.draw(figure)
    near, far = figure.axes
    np.testing.assert_array_equal(near.collections[0].get_offsets(), points[1:])
    np.testing.assert_array_equal(far.collections[0].get_offsets()[1:], points[1:])
    assert np.diff(far.get_xlim()) < 20
    assert [text.get_text() for text in figure.texts] == ["points far out stand at the edge"]
    assert "edge" not in held_out_rows(View((("near", points[1:]),), "rows")).alt
    nearly_the_same = np.zeros((100, 2))
    nearly_the_same[0] = 1.0
    assert "edge" not in held_out_rows(View((("few", nearly_the_same),), "rows")).alt


def test_points_of_the_front_are_numbered():
    study = make_study(
        trial([0.7, 10.0]),
        trial([0.6, 20.0]),
        trial([0.8, 30.0]),
        names=("score", "n_features"),
        directions=("maximize", "minimize"),
    )
    figure = Figure()
    pareto(study, study.trials).draw(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "2"]


def test_pruned_trials_are_in_the_history(tmp_path):
    pruned = trial([0.4], state=TrialState.PRUNED, intermediate_values={0: 0.4, 1: 0.45})
    html = read(make_study(trial([0.7]), pruned), tmp_path)
    assert "1 complete, 1 pruned" in html


def test_a_study_of_objects_that_have_no_name_has_no_snippet(tmp_path):
    html = read(make_study(trial([0.7], parameters={**LEARNED, "backbone": "object mlp 2"})), tmp_path)
    assert "mlp 2 with protonet on classes" in html
    assert not section(html, "The winner in Python")


def test_the_snippet_of_a_study_fits(tmp_path, blobs):
    html = read(make_study(trial([0.7])), tmp_path)
    code = unescape(re.search(r"<code>(.*?)</code>", html, re.S)[1])
    assert "MLP(width=32)" in code
    exec(
        code.replace("extractor.fit", "extractor.set_params(max_steps=1, validation_fraction=0).fit"),
        dict(zip("Xy", blobs, strict=True)),
    )


def test_the_code_of_a_final_estimator_runs(blobs):
    final = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=200))
    code = code_of(MetaFeatureExtractor("identity", device="cpu"), final)
    names = dict(zip("Xy", blobs, strict=True))
    exec(code, names)
    assert names["model"].predict(blobs[0]).shape == blobs[1].shape
    assert names["model"][-1][-1].C == 0.5


def test_the_code_says_which_classes_are_your_own():
    class Local(MLP):
        pass

    Local.__module__ = "__main__"
    code = code_of(MetaFeatureExtractor(Local()))
    assert "# Needs Local, which your own script defines." in code


def test_a_report_is_replaced(tmp_path):
    read(make_study(trial([0.7])), tmp_path)
    html = read(make_study(trial([0.8])), tmp_path)
    assert "0.800" in html
    assert "0.700" not in html
    with Image.open(io.BytesIO((tmp_path / "history.png").read_bytes())) as image:
        assert image.width > 500
