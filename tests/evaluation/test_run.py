"""A run from recipe to files, on a tiny model."""

import json
import weakref

import pytest

from tests.artifacts import eagle_head
from tests.evaluation.conftest import items, texts
from tests.test_methods import judged
from toolkit.engine.cache import SlotCache
from toolkit.engine.loop import SpecDecoder
from toolkit.evaluation import plan as planning
from toolkit.evaluation import run
from toolkit.hub import ModelConfig, Models


def test_a_run_leaves_its_rows_and_files(tiny, capsys):
    assert tiny.run("methods=[ngram,topk,speculative]", "seeds=[0,1]", "sampling.temperature=1.0") == 0
    expected = {("speed", m, f"p{i}", s, 0) for m in METHODS for i in range(3) for s in (0, 1)}
    expected |= {("quality", m, f"p{i}", s, 0) for m in ("baseline", "topk") for i in range(5) for s in (0, 1)}
    assert items(tiny.rows()) == dict.fromkeys(expected, 1)
    for row in tiny.rows():
        assert row["status"] == "ok"
        assert row["rounds"] + row["accepted"] == row["n_tokens"] == len(row["tokens"])
        assert sum(row["accepted_at"]) == row["accepted"]
        assert sum(row["proposed_at"]) == row["proposed"]
        assert row["batch"] == (1 if row["set"] == "speed" else row["batch"])
        phases = row["times"]
        assert sum(phases[p] for p in ("prefill", "draft", "verify", "host")) == pytest.approx(phases["total"])
    names = {
        "records.jsonl",
        "results.json",
        "run.json",
        "table.md",
        "speed_accuracy.png",
        "acceptance_by_position.png",
    }
    assert names <= {path.name for path in tiny.out.iterdir()}
    results = tiny.results()
    assert [s["method"] for s in results["speed"]] == METHODS
    assert [(q["method"], q["inherited"]) for q in results["quality"]] == [
        ("baseline", False),
        ("ngram", True),
        ("topk", False),
        ("speculative", True),
    ]
    assert results["sessions"][0]["system"]["torch"]
    model = results["models"]["tiny-random:llama"]
    assert model.keys() >= {"source", "fingerprint"} and len(model["fingerprint"]) == 64
    assert f"target tiny-random:llama: {model['source']}" in results["notes"]
    assert model["source"] in (tiny.out / "table.md").read_text()
    assert [(s["blocks"], s["speedup"]["low"]) for s in results["speed"][1:]] == [(3, None)] * 3
    assert "Speed (n=3, batch 1, timed)" in capsys.readouterr().out


METHODS = ["baseline", "ngram", "topk", "speculative"]


@pytest.mark.parametrize(("timed", "keys"), [("all", 19), ("[ngram]", 19 + 16)])
def test_what_is_to_be_there_is_worked_out_once(tiny, monkeypatch, timed, keys):
    """And once more where some are left out of the speed set."""
    counted, real = [], planning.resume_key
    monkeypatch.setattr(planning, "resume_key", lambda *parts: counted.append(parts) or real(*parts))
    assert tiny.run(f"speed.methods={timed}") == 0
    assert (len(counted), len(tiny.rows())) == (keys, 19 if timed == "all" else 16)


def test_greedy_texts_of_exact_methods_are_the_baselines(tiny):
    assert tiny.run("methods=[ngram,speculative,entropy_stop]", "speed.prompts=5") == 0
    equality = tiny.results()["equality"]
    assert [(e["method"], e["n"], e["bugs"]) for e in equality] == [
        ("ngram", 5, 0),
        ("speculative", 5, 0),
        ("entropy_stop", 5, 0),
    ]


def test_a_wrong_exact_method_is_called_a_bug(tiny, monkeypatch, capsys):
    """A loop that spoils drafted windows must not pass for a near-tie."""
    honest = SpecDecoder.generate

    def spoilt(self, requests, sampling, on_token=None):
        generations = honest(self, requests, sampling, on_token)
        for generation in generations:
            if type(self.proposer).__module__.endswith("ngram"):
                generation.tokens[0] ^= 1
        return generations

    monkeypatch.setattr(SpecDecoder, "generate", spoilt)
    tiny.run("methods=[ngram]")
    [equality] = tiny.results()["equality"]
    assert equality["bugs"] == 3
    assert "BUG: ngram" in capsys.readouterr().out


def test_an_extended_recipe_goes_on(tiny):
    warm = "sampling.temperature=1.0"
    tiny.run("methods=[ngram]", "task.limit=3", "speed.prompts=2", warm)
    first = tiny.records.read_text()
    tiny.run("methods=[topk,ngram]", "task.limit=5", "speed.prompts=3", "seeds=[0,7]", warm)
    assert tiny.records.read_text().startswith(first)
    expected = {("speed", m, f"p{i}", s, 0) for m in ("baseline", "ngram", "topk") for i in range(3) for s in (0, 7)}
    expected |= {("quality", m, f"p{i}", s, 0) for m in ("baseline", "topk") for i in range(5) for s in (0, 7)}
    assert items(tiny.rows()) == dict.fromkeys(expected, 1)


def test_a_finished_run_is_not_decoded_again(tiny, monkeypatch):
    tiny.run("methods=[topk]")
    before = tiny.records.read_bytes()
    monkeypatch.setattr(SpecDecoder, "generate", lambda *_: pytest.fail("decoded again"))
    assert tiny.run("methods=[topk]") == 0
    assert tiny.records.read_bytes() == before


def test_rows_say_the_threshold_that_a_judge_chose(tiny, tmp_path, monkeypatch):
    """Where the recipe has null. Rows of before it was said are still good: it is a matter of the judge's files."""
    directory = tmp_path / "judge"
    directory.mkdir()
    judged(directory, Models(ModelConfig("tiny-random:llama", device="cpu")))
    draft = "{type: draft_model, model: {name: target, draft_from: {layers: [0]}}}"
    accept = f"{{type: autojudge, judge: {directory}}}"
    sweep = [f"methods=[{{name: judged, proposer: {draft}, accept: {accept}}}]", "target.device=cpu"]
    assert tiny.run(*sweep) == 0
    rows = tiny.rows()
    mine = [row["method_config"] for row in rows if row["method"] == "judged"]
    assert mine and all(config["own"] == {"accept": {"threshold": 0.5}} for config in mine)
    assert all(config["accept"]["threshold"] is None for config in mine)
    assert tiny.results()["methods"]["judged"]["own"] == {"accept": {"threshold": 0.5}}
    assert all("own" not in row["method_config"] for row in rows if row["method"] == "baseline")
    for config in mine:
        del config["own"]
    tiny.records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(SpecDecoder, "generate", lambda *_: pytest.fail("decoded again"))
    assert tiny.run(*sweep) == 0


def test_a_method_that_has_decoded_holds_no_cache(tiny, tmp_path, monkeypatch):
    """Many cells of a grid are in memory at once, and a cache is large: whoever's turn is over has let go of it."""
    made, left = [], []
    buffer, measure = SlotCache._buffer, run.measure

    def counted(self, states):
        new = buffer(self, states)
        made.append(weakref.ref(new))
        return new

    def measured(setting, contender, block):
        made.clear()
        rows = measure(setting, contender, block)
        left.append((contender.name, len(made), sum(one() is not None for one in made)))
        return rows

    monkeypatch.setattr(SlotCache, "_buffer", counted)
    monkeypatch.setattr(run, "measure", measured)
    half = "{name: target, draft_from: {layers: [0]}}"
    consensus = f"{{name: both, base: consensus_autojudge, proposer: {{d1: {half}, d2: {half}}}}}"
    head = f"{{name: head, base: eagle3, proposer: {{head: {eagle_head(tmp_path)[0]}}}}}"
    assert tiny.run(f"methods=[speculative,{head},{consensus}]", "target.device=cpu") == 0
    assert {name for name, buffers, _ in left if buffers} == {"baseline", "speculative", "head", "both"}
    assert {living for _, _, living in left} == {0}


def test_texts_do_not_depend_on_batch_or_company(tiny):
    """At temperature 1 as well: what is drawn hangs on seed and prompt, not on who is decoded beside it."""
    tiny.run("sampling.temperature=1.0", "methods=[topk,ngram]")
    alone = texts(tiny.rows())
    tiny.run("sampling.temperature=1.0", "methods=[topk]", "quality.batch=1", f"out={tiny.out}-2", "task.limit=4")
    tiny.records = tiny.out.parent / "out-2" / "records.jsonl"
    again = texts(tiny.rows())
    assert again.items() <= alone.items()
    assert again[("quality", "topk", "p0", 0, 0)] == again[("speed", "topk", "p0", 0, 0)]


def test_a_prompt_that_fails_is_a_row_and_no_more(tiny):
    tiny.ask(["1 + 1 is", "a" * 9000, "2 + 2 is"])  # longer than the model's 8192 positions
    assert tiny.run("methods=[topk]", "quality.batch=3", "speed.batch=2") == 0
    bad = [row for row in tiny.rows() if row["status"] == "error"]
    assert {(row["set"], row["method"], row["prompt_id"]) for row in bad} == {
        (s, m, "p1") for s in ("speed", "quality") for m in ("baseline", "topk")
    }
    assert all("positions" in row["message"] and "Traceback" in row["traceback"] for row in bad)
    assert len(tiny.rows()) == 12
    assert any("4 of 12 rows failed" in note for note in tiny.results()["notes"])


def test_failed_rows_are_tried_again(tiny, monkeypatch):
    honest = SpecDecoder.generate

    def failing(self, requests, sampling, on_token=None):
        if any(len(request.prompt) % 2 for request in requests) and self.accept.__class__.__name__ == "TopK":
            raise RuntimeError("out of luck")
        return honest(self, requests, sampling, on_token)

    tiny.ask(["odd", "even", "odd again"])
    monkeypatch.setattr(SpecDecoder, "generate", failing)
    tiny.run("chat_template=false")
    bad = [row for row in tiny.rows() if row["status"] == "error"]
    assert {row["error_type"] for row in bad} == {"RuntimeError"}
    assert all("out of luck" in row["traceback"] for row in bad)
    kept = [row for row in tiny.rows() if row["status"] == "ok"]
    assert {row["prompt_id"] for row in kept if row["method"] == "topk"}  # some of the batch came through
    monkeypatch.setattr(SpecDecoder, "generate", honest)
    tiny.run("chat_template=false")
    rows = tiny.rows()
    assert len(rows) == 9 + 6
    assert {row["status"] for row in rows} == {"ok"}
    assert [row for row in kept if row in rows] == kept


def test_a_method_that_never_works_fails_the_run(tiny, monkeypatch):
    def failing(self, requests, sampling, on_token=None):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(SpecDecoder, "generate", failing)
    assert tiny.run() == 1


def test_half_a_batch_is_decoded_again_whole(tiny):
    """A batch's clock is of all its rows, so the speed set keeps no part of one."""
    tiny.run("speed.batch=3", "quality.enabled=false")
    whole = tiny.rows()
    lines = tiny.records.read_text().splitlines(keepends=True)
    tiny.records.write_text("".join(lines[:4]) + lines[4][:50])  # of the second batch: a row and a torn one
    tiny.run("speed.batch=3", "quality.enabled=false")
    assert items(tiny.rows()) == items(whole)
    assert texts(tiny.rows()) == texts(whole)
    assert {row["batch"] for row in tiny.rows()} == {3}
    assert len({row["session"] for row in tiny.rows()[:3]} & {row["session"] for row in tiny.rows()[3:6]}) == 0


def test_times_of_two_machines_are_pointed_out(tiny):
    tiny.run("quality.enabled=false")
    lines = tiny.records.read_text().splitlines(keepends=True)
    tiny.records.write_text("".join(lines[:3]))
    marker = json.loads((tiny.out / "run.json").read_text())
    marker["sessions"][0]["system"]["cpu"] = "another processor"
    (tiny.out / "run.json").write_text(json.dumps(marker))
    tiny.run("quality.enabled=false")
    assert any("several machines" in note for note in tiny.results()["notes"])
    tiny.run("quality.enabled=false", f"out={tiny.out}-2")
    tiny.out = tiny.out.parent / "out-2"
    assert not any("several machines" in note for note in tiny.results()["notes"])


@pytest.mark.parametrize("key", ["torch", "transformers", "git_sha"])
def test_versions_that_differ_between_sessions_are_named(tiny, key):
    arguments = ["quality.enabled=false", "methods=[ngram]", "speed.prompts=2"]
    tiny.run(*arguments)
    assert not any("several versions" in note for note in tiny.results()["notes"])
    lines = tiny.records.read_text().splitlines(keepends=True)
    tiny.records.write_text("".join(lines[:2]))
    marker = json.loads((tiny.out / "run.json").read_text())
    marker["sessions"][0]["system"][key] = "another"
    (tiny.out / "run.json").write_text(json.dumps(marker))
    tiny.run(*arguments)
    [note] = [note for note in tiny.results()["notes"] if "several versions" in note]
    assert note.startswith("WARNING") and f"software: {key} differ" in note


def test_other_weights_under_the_same_name_are_another_run(tiny, monkeypatch, capsys):
    tiny.run("methods=[ngram]")
    built = Models.__init__

    def retrained(self, target):
        built(self, target)
        self.provenance[target.name]["fingerprint"] = "0" * 64

    monkeypatch.setattr(Models, "__init__", retrained)
    assert tiny.run("methods=[ngram]") == 2
    assert "weights is" in capsys.readouterr().err
