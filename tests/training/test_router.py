"""Training a router, from prompts to text: what is tried, what is learned from it, an artifact that serves."""

import dataclasses
import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from tests.artifacts import config
from tests.routers import DRAFTS, tiny_encoder
from tests.training.runs import finish, start
from toolkit import artifact, cli, methods
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.export import card
from toolkit.hub import Models
from toolkit.nets import router as routers
from toolkit.training import main, processes, router, router_collect


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Whatever a test's run reports, it reports there."""
    monkeypatch.chdir(tmp_path)


class Run:
    """A recipe in a directory."""

    def __init__(self, directory, encoder, drafts=None, limit=8, **changes):
        self.out, self.tried, self.recipe = directory / "out" / "router", directory / "tried", directory / "tiny.yaml"
        tasks = [
            {"domain": kind, "type": "steps", "style": "cod", "kinds": [kind], "limit": limit}
            for kind in ("story", "expression")
        ]
        recipe = {
            "target": {"name": "tiny-random:llama", "device": "cpu"},
            "data": {"tasks": [{"type": "mixed", "split": "train", "tasks": tasks}]},
            "collect": {"drafts": drafts or DRAFTS, "path": str(self.tried), "max_new_tokens": 8, "repeats": 2},
            "train": {"encoder": encoder, "epochs": 3, "valid": 0.25, "test": 0.25},
            "out": str(self.out),
        }
        self.recipe.write_text(json.dumps(recipe | changes))

    def run(self, *overrides):
        return main.router([str(self.recipe), *overrides])

    def rows(self):
        lines = [line for part in (self.tried / "parts").glob("*.jsonl") for line in part.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def manifest(self):
        return json.loads((self.out / "manifest.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory, encoder):
    """From beginning to end, by one process. Only to be read."""
    directory = tmp_path_factory.mktemp("whole")
    run = Run(directory, encoder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert run.run() == 0
        run.report = json.loads((directory / "results/router/router/report.json").read_text())
    return run


def test_every_draft_is_tried_on_every_prompt(whole):
    rows = whole.rows()
    assert len(rows) == 16 and {row["domain"] for row in rows} == {"story", "expression"}
    for row in rows:
        assert list(row["drafts"]) == list(DRAFTS) and row["processes"] == 1
        for name, tries in row["drafts"].items():
            assert len(tries) == 2
            for one in tries:
                assert (
                    one["ms"] > 0
                    and one["tokens"] <= 8
                    and one["tau"] == pytest.approx(one["tokens"] / one["rounds"], abs=1e-3)
                )
                assert (one["acceptance"] is None) == (one["proposed"] == 0)
                assert name != "none" or one["proposed"] == 0 and one["rounds"] == one["tokens"]
    header = json.loads((whole.tried / "routing.json").read_text())
    assert [one["name"] for one in header["drafts"]] == list(DRAFTS)
    assert header["binds"].keys() == {"target", "draft.half"}


def test_what_is_tried_is_what_decoding_gives(whole):
    """Tokens and acceptance are those of the draft's own method under the same seed."""
    models = Models(config())
    node = {"name": "x", "proposer": DRAFTS["half"]["proposer"], "length": DRAFTS["half"]["length"]}
    decoder = methods.decoder(methods.resolve(node, "x"), models)
    tried = router_collect.read([whole.tried])
    for row in tried.rows[:4]:
        number = int.from_bytes(hashlib.sha256(row["key"].encode()).digest()[:8]) >> 1
        for repeat in range(2):
            request = Request(number, tuple(row["input_ids"]), sample=repeat)
            [one] = decoder.generate([request], Sampling(temperature=1.0, max_new_tokens=8))
            found = row["drafts"]["half"][repeat]
            assert (found["tokens"], found["rounds"]) == (len(one.tokens), len(one.windows))
            assert found["accepted"] == sum(accepted for _, accepted in one.windows)


def test_the_artifact_and_its_report(whole):
    manifest, report = whole.manifest(), whole.report
    assert (manifest["kind"], manifest["provides"]) == ("router", ["proposer"])
    assert manifest["binds"].keys() == {"target", "draft.half"} and manifest["smoke"]["tokens"] > 0
    assert manifest["composes"]["proposer"] == {"type": "routed", "artifact": "."}
    assert manifest["data"]["rows"] == 16 and manifest["training"]["test"] == report["test"]
    assert report["prompts"] == {"train": 8, "valid": 4, "test": 4}
    assert report["test"]["prompts"] == 4 and report["single"] in DRAFTS
    assert report["test"]["ms"]["oracle"] <= report["test"]["ms"]["routed"]
    assert report["matrix"].keys() == {"story", "expression"}
    assert (
        report["matrix"]["story"]["none"]["tau"]["value"] == 1
        and report["matrix"]["story"]["none"]["acceptance"] is None
    )
    assert report["crossed_oracle"]["ms"] > 0 and report["taken_alone"]
    stored = json.loads((whole.out / "config.json").read_text())
    assert [one["name"] for one in stored["drafts"]] == list(DRAFTS) and stored["encoder"]["hash"]
    assert stored["fallback"] == report["single"]


def test_commands_know_a_router(whole, capsys):
    for command in ("check", "describe", "card"):
        assert cli.main([command, str(whole.out)]) == 0
    test = whole.report["test"]
    assert f"regret, ms a token {test['regret']['routed']['value']:.4f}" in capsys.readouterr().out
    written = (whole.out / "README.md").read_text()
    assert "a router: which of several drafts serves a prompt" in written and "and for no other pair" in written
    assert f"| a lot | {test['ms']['random']:,.2f} |" in written and "| story | half | 8 |" in written
    assert f"| half | {' | '.join(map(str, test['confusion'][test['drafts'].index('half')]))} |" in written
    assert "use: [path/to/router]" in written and "draftsmith generate --router path/to/router" in written


def test_a_card_names_all_of_many_drafts(whole):
    manifest = artifact.read(whole.out)
    draft = manifest.binds["draft.half"]
    binds = manifest.binds | {f"draft.{name}": draft | {"name": name} for name in ("code", "chat", "math")}
    written = str(card.render(dataclasses.replace(manifest, binds=binds), "router"))
    assert all(f"the draft `{name}`" in written for name in ("code", "chat", "math"))


def test_it_serves(whole):
    models = Models(config())
    node = {"name": "x", **artifact.read(whole.out).pieces(whole.out)}
    decoder = methods.decoder(methods.resolve(node, "x"), models)
    requests = [Request(i, tuple(row["input_ids"])) for i, row in enumerate(whole.rows()[:3])]
    done = decoder.generate(requests, Sampling(max_new_tokens=6))
    plain = methods.decoder(methods.resolve("baseline", "x"), models).generate(requests, Sampling(max_new_tokens=6))
    assert [one.tokens for one in done] == [one.tokens for one in plain]
    assert all(len(one.routing.rounds) == 1 for one in done)


def test_a_prompt_s_features_are_the_same_in_training_and_serving(whole, monkeypatch):
    """From its token ids alone, embedding included."""
    seen = []
    right = routers.features

    def spied(embeddings, texts, tokens, vocab):
        seen.append(right(embeddings, texts, tokens, vocab))
        return seen[-1]

    monkeypatch.setattr(routers, "features", spied)
    monkeypatch.setattr("toolkit.routers.mlp.features", spied)
    models, tried = Models(config()), router_collect.read([whole.tried])
    node = {"name": "x", **artifact.read(whole.out).pieces(whole.out)}
    decoder = methods.decoder(methods.resolve(node, "x"), models)
    decoder.generate([Request(0, tuple(tried.rows[2]["input_ids"]))], Sampling(max_new_tokens=2))
    drafts = decoder.proposer.router.routing.drafts
    settings = router.load(whole.recipe, []).train
    router._fitted(settings, tried, drafts, models.target.tokenizer, "x")
    assert torch.equal(seen[0][0], seen[1][2])


def test_a_killed_run_goes_on(whole, encoder, tmp_path):
    """Whole lines are kept, a torn one is tried again, and nothing is tried twice."""
    run = Run(tmp_path, encoder)
    shutil.copytree(whole.tried, run.tried)
    [part] = (run.tried / "parts").glob("*.jsonl")
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:5]) + lines[5][:30])
    assert run.run("train=null") == 0
    rows = [
        json.loads(line)
        for line in part.read_bytes().splitlines()
        if line.startswith(b'{"key"') and line.endswith(b"}")
    ]
    assert len(rows) == 16 and [json.dumps(row) for row in rows[:5]] == [line.decode().strip() for line in lines[:5]]
    before = part.read_bytes()
    assert run.run("train=null") == 0 and part.read_bytes() == before
    assert not run.out.exists()


def test_the_tasks_of_all_sittings_are_told(whole, encoder, tmp_path):
    run = Run(tmp_path, encoder)
    shutil.copytree(whole.tried, run.tried)
    before = router_collect.read([run.tried]).header.data
    for _ in range(2):
        assert run.run("data.tasks.0.tasks.0.limit=2", "train=null") == 0
        both = router_collect.read([run.tried]).header.data
        assert both[:1] == before and [one["tasks"][0]["limit"] for one in both] == [8, 2]
    assert router_collect.read([whole.tried, run.tried]).header.data == both


def test_times_of_other_drafts_are_not_mixed(whole, encoder, tmp_path, capsys):
    run = Run(tmp_path, encoder)
    shutil.copytree(whole.tried, run.tried)
    assert run.run("collect.drafts.half.length.k=2") == 2
    assert "differs in 'drafts'" in capsys.readouterr().err
    assert run.run("collect.max_new_tokens=9") == 2
    assert "differs in 'sampling'" in capsys.readouterr().err


def test_two_wordings_of_one_prompt_are_not_mixed(whole, encoder, tmp_path, capsys):
    run = Run(tmp_path, encoder)
    shutil.copytree(whole.tried, run.tried)
    row = whole.rows()[3]
    (run.tried / "parts" / "1.jsonl").write_text(json.dumps(row | {"prompt": "0" * 16}) + "\n")
    before = {path.name: path.read_bytes() for path in (run.tried / "parts").iterdir()}
    assert run.run() == 2
    said = capsys.readouterr().err
    assert "key 'collect.path'" in said and f"'{row['key']}' is there in two wordings" in said
    assert {path.name: path.read_bytes() for path in (run.tried / "parts").iterdir()} == before
    with pytest.raises(UserError, match="is there in two wordings"):
        router_collect.read([run.tried])


def test_learning_from_what_was_tried_loads_no_draft_to_learn(whole, encoder, tmp_path, monkeypatch):
    run = Run(tmp_path, encoder, collect=None, collected=[str(whole.tried)])
    monkeypatch.setattr(SpecDecoder, "generate", None)  # nothing is decoded but to try the artifact
    with pytest.raises(TypeError):
        run.run("train.loss=regret")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run.run("train.loss=regret") == 0
    assert run.manifest()["training"]["loss"] == "regret"
    assert run.run("train.loss=regret") == 0  # is there already


def test_one_draft_alone(encoder, tmp_path, capsys):
    run = Run(tmp_path, str(tmp_path / "no-encoder"), {"half": DRAFTS["half"]}, limit=2)
    assert run.run() == 0
    assert "one draft only, 'half'" in capsys.readouterr().err
    assert json.loads((run.out / "config.json").read_text())["encoder"] is None
    assert run.manifest()["smoke"]["tokens"] > 0


def test_an_encoder_that_is_not_there(whole, tmp_path, capsys):
    run = Run(tmp_path, str(tmp_path / "gone"), collect=None, collected=[str(whole.tried)])
    assert run.run() == 2
    assert "encoder '" in capsys.readouterr().err and not run.out.exists()


def test_only_the_first_process_learns(whole, encoder, tmp_path, monkeypatch):
    waited = []
    state = SimpleNamespace(num_processes=2, is_main_process=False, wait_for_everyone=lambda: waited.append(1))
    monkeypatch.setattr(processes, "joined", lambda: state)
    run = Run(tmp_path, encoder, collect=None, collected=[str(whole.tried)])
    assert run.run() == 0 and waited and not run.out.exists()


@pytest.mark.slow
def test_two_processes_share_the_prompts(encoder, tmp_path):
    run = Run(tmp_path, encoder)
    said = finish(start("train/router.py", run.recipe, "train=null", processes=2))
    assert "several processes take times beside each other" in said
    assert sorted(path.name for path in (run.tried / "parts").glob("*.jsonl")) == ["0.jsonl", "1.jsonl"]
    assert len(run.rows()) == 16 and {row["processes"] for row in run.rows()} == {2}


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("collect=null", "collect"),
        ("collect.drafts={}", "collect.drafts"),
        ("collect.max_new_tokens=2", "collect.max_new_tokens"),
        ("collect.temperature=-1", "collect.temperature"),
        ("collect.repeats=0", "collect.repeats"),
        ("target=null", "target"),
        ("data.tasks=[]", "data.tasks"),
        ("train.epochs=0", "train.epochs"),
        ("train.label_ms=0", "train.label_ms"),
        ("train.threshold=2", "train.threshold"),
        ("train.valid=0.9", "train.valid"),
        ("train.dropout=1", "train.dropout"),
    ],
)
def test_values_that_cannot_be_meant(override, key):
    with pytest.raises(UserError, match=f"key '{key}' is"):
        router.load("recipes/train/smoke/router.yaml", [override])
