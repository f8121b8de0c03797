"""Learning to judge from mined rows: what is fitted, what it is worth on other prompts, and a whole tiny run."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.training import judging
from toolkit import cli, methods
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, Models
from toolkit.nets import judge as judges
from toolkit.training import autojudge, judge, judge_fit, judge_report, main, processes
from toolkit.training.judge import JudgeConfig
from toolkit.training.judge_fit import Examples

GRID = [1e-4, 1e-2, 1.0]
QUICK = JudgeConfig(C=GRID, folds=4, valid=0.25)


@pytest.fixture(scope="module")
def data():
    return judge.examples(judging.table(), ["target"])[0]


@pytest.fixture(scope="module")
def learned():
    return judge.learn(judging.table(), QUICK)


def test_rows_become_features_in_their_order():
    table = judging.table(count=30)
    data, hidden = judge.examples(table, ["distribution", "draft", "target"])
    assert data.features.shape == (30, 2 * judging.WIDTH + 5) and data.features.dtype == np.float32
    assert hidden == {"target": judging.WIDTH, "draft": judging.WIDTH}
    assert data.features[3].tolist() == [
        *(float(x) for name in ("target", "draft") for x in table[f"{name}_hidden"][3].as_py()),
        *(table[name][3].as_py() for name in judges.COLUMNS),
    ]
    assert data.important.tolist() == table["important"].to_pylist()
    assert len(np.unique(data.prompt)) == len(set(table["prompt"].to_pylist()))
    assert judge.columns(JudgeConfig(features=["target"])) == ["prompt", "important", *judges.COLUMNS, "target_hidden"]


def test_states_that_were_not_kept_are_asked_for():
    with pytest.raises(UserError, match="no states of the draft: mine it with mine.hidden=.draft."):
        judge.examples(judging.table(hidden=("target",), count=30), ["target", "draft"])


def test_features_that_are_no_numbers_are_refused():
    table = judging.table(count=30)
    spoiled = table.set_column(table.schema.get_field_index("kl"), "kl", [[math.nan] * 30])
    with pytest.raises(UserError, match="features that are no numbers"):
        judge.examples(spoiled, ["distribution"])


@pytest.mark.parametrize("c", GRID)
def test_a_logistic_is_scikit_learns(data, c):
    rows = data.features.astype(np.float64)
    known = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500)).fit(rows, data.important)
    net = judge_fit.fit(data, data, [{"C": c}], 0).net
    assert judge_fit.logits(net, data.features) == pytest.approx(known.decision_function(rows), abs=2e-3)


@pytest.mark.parametrize("depth", [3, 5])
def test_trees_are_scikit_learns(data, depth):
    model = HistGradientBoostingClassifier(max_depth=depth, max_iter=40, min_samples_leaf=20, early_stopping=False)
    model.fit(data.features, data.important)
    net = judge_fit.trees(model)
    assert net.depth == depth
    random = np.random.default_rng(1)
    elsewhere = random.normal(size=(500, data.features.shape[1])).astype(np.float32) * 4
    for rows in (data.features, elsewhere):
        assert judge_fit.logits(net, rows) == pytest.approx(model.decision_function(rows), abs=1e-5)


def test_what_is_tried():
    assert judge_fit.options("logistic", JudgeConfig().C) == [{"C": pytest.approx(10.0**e)} for e in range(-7, 1)]
    assert [tuple(one.values()) for one in judge_fit.options("boosting", GRID)] == [
        (depth, rate) for depth in (3, 5) for rate in (0.05, 0.1)
    ]


def test_whole_prompts_are_held_out(data):
    train, valid = judge_fit.split(data, 0.1, 0)
    assert not {*train.prompt} & {*valid.prompt} and len({*valid.prompt}) == 4
    assert len(train) + len(valid) == len(data)


def test_the_best_option_is_the_one_that_does_best_on_others(data):
    train, valid = judge_fit.split(data, 0.25, 0)
    fitted = judge_fit.fit(train, valid, [{"C": c} for c in (1e-7, *GRID)], 0)
    assert fitted.aucs[fitted.best] == max(fitted.aucs)
    wanted = roc_auc_score(valid.important, judge_fit.logits(fitted.net, valid.features))
    assert fitted.aucs[fitted.best] == pytest.approx(wanted)


def test_one_kind_only_is_refused(data):
    none = Examples(data.features, np.zeros(len(data), bool), data.prompt)
    with pytest.raises(UserError, match="800 mismatches to train on, 0 are important; both kinds are needed"):
        judge_fit.fit(none, data, [{"C": 1.0}], 0)


def test_auc_with_ties_and_weights():
    random = np.random.default_rng(0)
    score, label = random.integers(5, size=200).astype(float), random.random(200) < 0.4
    weight = random.integers(0, 4, size=200)
    assert judge_fit.auc(score, label) == pytest.approx(roc_auc_score(label, score))
    wanted = roc_auc_score(label, score, sample_weight=weight)
    assert judge_fit.auc(score, label, weight) == pytest.approx(wanted)
    assert math.isnan(judge_fit.auc(score, np.zeros(200, bool)))


def test_intervals_are_by_prompt():
    """Copies of a prompt's rows say nothing new: by rows the interval would shrink, by prompts it stays."""
    random = np.random.default_rng(0)
    label, prompt = random.random(300) < 0.5, np.repeat(np.arange(30), 10)
    score = label + 2 * random.normal(size=300)
    few = Examples(np.zeros((300, 1), np.float32), label, prompt)
    copies = np.tile(np.arange(300), 20)
    many = Examples(few.features[copies], label[copies], prompt[copies])
    one, other = judge_report.interval(few, score, 0), judge_report.interval(many, score[copies], 0)
    assert one == pytest.approx(other) and one["low"] < one["value"] < one["high"]
    assert one["high"] - one["low"] > 0.08
    assert judge_report.interval(few, score, 0, score) == {"value": 0, "low": 0, "high": 0}


def test_the_table_has_the_largest_thresholds():
    random = np.random.default_rng(0)
    important = random.random(300) < 0.3
    score = (2 * random.normal(size=300) + important).astype(np.float32)
    for row in judge_report.table(score, important):
        found = score >= row.logit
        assert found[important].mean() >= row.recall - 1e-9 and row.reached == found[important].mean()
        higher = np.sort(score[score > row.logit])[0]
        assert (score >= higher)[important].mean() < row.recall, "a larger one would have done"
        assert row.accepts == (~found[~important]).mean()
        assert row.threshold == pytest.approx(1 / (1 + math.exp(-row.logit)))


def test_ninety_of_a_hundred_are_ninety():
    """0.9 * 100 is 90.00000000000001 in floats: one more would be asked for."""
    score = np.arange(200, dtype=np.float32)
    important = score >= 100
    [row] = judge_report.table(score, important, [0.9])
    assert (row.logit, row.reached, row.accepts) == (110, 0.9, 1.0)


def test_fixed_thresholds_have_their_ends():
    score, important = np.array([-50.0, 50.0, 800.0, -800.0]), np.array([False, True, True, False])
    rows = {row["threshold"]: row for row in judge_report.thresholds(score, important)}
    assert (rows[0.0]["recall"], rows[0.0]["accepts_all"]) == (1, 0)
    assert (rows[1.0]["recall"], rows[1.0]["accepts_all"]) == (0, 1)
    assert (rows[0.5]["recall"], rows[0.5]["accepts"]) == (1, 1)


def test_what_states_say_is_learned(learned):
    made, report, _ = learned
    crossed = report["auc"]["crossed"]
    assert crossed["low"] < crossed["value"] < crossed["high"] and crossed["low"] > 0.8
    assert report["auc"]["held_out"]["value"] == max(row["auc"] for row in report["grid"])
    controls = report["controls"]
    assert controls["chance"] == 0.5 and controls["distribution"]["crossed"]["value"] < crossed["value"]
    assert controls["less_distribution"]["low"] > 0
    assert controls["option_by_lot"]["crossed"]["value"] < crossed["value"] + 0.02
    assert report["counts"]["all"]["prompts"] == 40 and report["counts"]["held_out"]["prompts"] == 10
    assert report["counts"]["train"]["mismatches"] + report["counts"]["held_out"]["mismatches"] == 800
    assert report["option"]["C"] in GRID and report["threshold"] == made.table[5].threshold
    assert 0.75 < report["crossed_recall"] <= 1
    for name in ("held_out", "crossed"):
        rows = report["calibration"][name]
        assert all(row["from"] <= row["predicted"] <= row["from"] + 0.1 for row in rows)
    count = sum(row["count"] for row in report["calibration"]["crossed"])
    mean = sum(row["count"] * row["predicted"] for row in report["calibration"]["crossed"]) / count
    assert count == 800 and mean == pytest.approx(judging.SHARE, abs=0.05)


def test_noise_teaches_nothing():
    """Not even the prompts' own marks: by rows instead of prompts they would be learned by heart."""
    table = judging.table(signal=0.0, laws=0.0)
    _, report, _ = judge.learn(table, QUICK)
    for found in (report["auc"], report["controls"]["distribution"]):
        assert found["crossed"]["low"] < 0.55 and found["crossed"]["high"] > 0.45
    # Labels that are the prompt's: nothing that is told of other prompts
    prompt = np.array([int(one.partition("/")[2]) for one in table["prompt"].to_pylist()])
    data, _ = judge.examples(table, ["target"])
    by_prompt = Examples(data.features, np.random.default_rng(5).random(40)[prompt] < 0.5, data.prompt)
    scores = judge_report.crossed(by_prompt, [{"C": 1e-2}], {"C": 1e-2}, 5, 0.25, 0)
    found = judge_report.interval(by_prompt, scores.chosen, 0, fold=scores.fold)
    assert found["low"] < 0.5 < found["high"], "a prompt was judged by who knew it"


def test_the_same_seed_the_same_judge(learned):
    made, report, _ = learned
    again, figures, _ = judge.learn(judging.table(), QUICK)
    assert figures == report
    assert all(torch.equal(tensor, again.net.state_dict()[name]) for name, tensor in made.net.state_dict().items())


def test_boosting_learns_too(monkeypatch):
    monkeypatch.setattr(judge_fit, "_TREES", 30)
    made, report, _ = judge.learn(judging.table(count=500), JudgeConfig("boosting", C=GRID, folds=2, valid=0.25))
    assert made.type == "boosting" and report["option"].keys() == {"depth", "rate"}
    assert report["auc"]["crossed"]["value"] > 0.8 and len(report["grid"]) == 4


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("judge.type=forest", "judge.type"),
        ("judge.features=[]", "judge.features"),
        ("judge.features=[target,target]", "judge.features"),
        ("judge.features=[state]", "judge.features"),
        ("judge.features=[target,draft]", "mine.hidden"),
        ("judge.C=[0]", "judge.C"),
        ("judge.recall=0.33", "judge.recall"),
        ("judge.valid=0", "judge.valid"),
        ("judge.folds=1", "judge.folds"),
        ("mine=null", "mine"),
        ("data.tasks=[]", "data.tasks"),
    ],
)
def test_values_that_cannot_be_meant(override, key):
    with pytest.raises(UserError, match=f"key '{key}' is"):
        autojudge.load("recipes/train/smoke/autojudge.yaml", [override])


# A run as a user starts it, on what was mined before


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    return judging.directory(tmp_path_factory.mktemp("mined") / "pair")


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Whatever a test's run reports, it reports there."""
    monkeypatch.chdir(tmp_path)


def train(mined, out, *overrides):
    settings = {"C": GRID, "folds": 3, "valid": 0.25}
    recipe = out.with_suffix(".yaml")
    recipe.write_text(json.dumps({"mined": [str(mined)], "judge": settings, "out": str(out)}))
    return main.autojudge([str(recipe), *overrides])


def test_a_run_from_rows_to_text(mined, tmp_path, capsys):
    out = tmp_path / "judge"
    assert train(mined, out) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    header = json.loads((mined / "mined.json").read_text())
    assert (manifest["kind"], manifest["provides"]) == ("autojudge", ["accept"])
    assert manifest["binds"] == {"target": header["binds"]["target"]}, "it reads nothing of the draft"
    assert manifest["smoke"]["tokens"] > 0 and manifest["data"]["fingerprint"]
    assert manifest["training"]["table"] == json.loads((out / "config.json").read_text())["table"]
    assert manifest["training"]["calibration"]["held_out"]
    assert {path.name for path in out.iterdir()} >= {"config.json", "judge.safetensors", "manifest.json"}
    report = json.loads((tmp_path / "results/autojudge/judge/report.json").read_text())
    assert {path.name for path in (tmp_path / "results/autojudge/judge").iterdir()} == {
        "report.json",
        "calibration.png",
        "recall.png",
    }
    assert report["auc"] == manifest["training"]["auc"]
    assert "AUC on prompts not learned from" in capsys.readouterr().err

    models = Models(ModelConfig(judging.TINY, device="cpu"))
    requests = [Request(i, tuple(range(40 + i, 60 + i))) for i in range(4)]

    def decoded(temperature, **options):
        accept = {"type": "autojudge", "judge": str(out)} | options if options else "rejection"
        node = {"name": "test", "proposer": judging.DRAFT, "accept": accept}
        sampling = Sampling(temperature, max_new_tokens=16, seed=3)
        return methods.decoder(methods.resolve(node, "test"), models).generate(requests, sampling)

    for temperature in (0.0, 1.0):
        plain, strict = decoded(temperature), decoded(temperature, threshold=0.0)
        assert [(one.tokens, one.windows) for one in strict] == [(one.tokens, one.windows) for one in plain]
        assert all(one.lossless for one in strict)
        judged = decoded(temperature, recall=0.5)
        assert sum(one.counters["judge_total"] for one in judged) > 0 and not any(one.lossless for one in judged)
    assert train(mined, out) == 0
    assert "is there already" in capsys.readouterr().err


def test_commands_know_a_judge(mined, tmp_path, capsys):
    out = tmp_path / "judge"
    assert train(mined, out) == 0
    for command in ("check", "describe", "card"):
        assert cli.main([command, str(out)]) == 0
    shown = capsys.readouterr().out
    training = json.loads((out / "manifest.json").read_text())["training"]
    assert f"crossed AUC {training['auc']['crossed']['value']:.4f}" in shown
    card = (out / "README.md").read_text()
    assert "a classifier of which mismatches matter" in card and "and for no other target" in card
    for row in training["table"]:
        assert f"| {100 * row['recall']:.1f}% | {row['threshold']:.4g} |" in card
    assert "accept: {type: autojudge, judge: path/to/judge}" in card


def test_what_was_mined_since_is_not_passed_over(mined, tmp_path, capsys):
    out, copied = tmp_path / "judge", tmp_path / "mined"
    shutil.copytree(mined, copied)
    assert train(copied, out) == 0
    for kind in ("prompts", "mismatches"):
        [part] = copied.glob(f"parts/{kind}-*.parquet")
        table = pq.read_table(part)
        names = pa.array([f"more/{name}" for name in table["prompt"].to_pylist()])
        more = table.set_column(table.schema.get_field_index("prompt"), "prompt", names)
        pq.write_table(more, part.with_name(f"{kind}-more.parquet"))
    assert train(copied, out) == 2
    assert "other mismatches than" in capsys.readouterr().err
    shutil.rmtree(copied)  # an artifact is whole without what it was made of
    assert train(copied, out) == 0


def test_of_one_draft_where_it_reads_the_draft(mined, tmp_path, monkeypatch):
    monkeypatch.setattr(judge_fit, "_TREES", 10)
    out = tmp_path / "both"
    assert train(mined, out, "judge.features=[target,draft,distribution]", "judge.type=boosting", "judge.folds=2") == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["binds"].keys() == {"target", "draft"} and manifest["smoke"]["tokens"] > 0
    node = {"name": "test", "proposer": "ngram", "accept": {"type": "autojudge", "judge": str(out)}}
    with pytest.raises(UserError, match="acceptance rule 'autojudge' was trained with another draft"):
        methods.decoder(methods.resolve(node, "test"), Models(ModelConfig(judging.TINY, device="cpu")))


def test_only_the_first_process_learns(mined, tmp_path, monkeypatch):
    waited = []
    state = SimpleNamespace(num_processes=2, is_main_process=False, wait_for_everyone=lambda: waited.append(1))
    monkeypatch.setattr(processes, "joined", lambda: state)
    assert train(mined, tmp_path / "none") == 0
    assert waited and not (tmp_path / "none").exists()
