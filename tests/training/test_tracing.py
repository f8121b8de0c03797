"""Collecting a trace: the same rows however it is run, nothing twice, and nothing of another trace among them."""

import errno
import json
import random
import shutil

import pyarrow.parquet as pq
import pytest

from tests.training.runs import kill_when
from tests.training.traced import PROMPTS, TOKENS, WINDOW, Tracing, assert_same_rows, edit
from toolkit import config
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Request, Sampling
from toolkit.files import lock
from toolkit.hub import ModelConfig, Models
from toolkit.lengths.fixed import Fixed
from toolkit.proposers import draft_model
from toolkit.training import answers, collect, tracing
from toolkit.training.traces import Trace

PAIRS = 2 * PROMPTS  # requests at each of two temperatures


def assert_each_once(tracing):
    """Every request at every temperature, in one file."""
    pairs = []
    for part in tracing.parts("rounds"):
        table = pq.ParquetFile(part).read(["temperature", "request"])
        pairs += {*zip(table["temperature"].to_pylist(), table["request"].to_pylist(), strict=True)}
    assert len(pairs) == len(set(pairs)) == PAIRS


def test_killed_and_continued_by_two_processes(tmp_path, collected):
    tracing = Tracing(tmp_path)
    count = random.randrange(1, 6)
    kill_when(tracing.start("trace.batch=1"), lambda: len(tracing.parts()) >= count)
    before = tracing.files()
    assert count <= len(tracing.parts()) < PAIRS
    left_behind = tracing.path / "parts" / ".positions-killed.partial"
    left_behind.write_bytes(b"half a f")
    said = tracing.launch("trace.batch=2", processes=2)
    assert "costs.json is missing for temperature 0, 1: run the same command with one process" in said, (
        "these were not two processes"
    )
    assert f"traces of {PROMPTS} prompts" in said and said.count("hidden states (draft): about") == 1
    assert not left_behind.exists() and not (tracing.path / "costs.json").exists()
    for part in tracing.parts():  # what the killed run had finished was left alone
        assert part not in before or part.stat().st_mtime_ns == before[part]
    assert_each_once(tracing)
    assert_same_rows(tracing.rows(), collected.rows())


def test_a_second_start_only_measures_what_is_missing(tmp_path, collected, capsys):
    tracing = Tracing(tmp_path)
    shutil.copytree(collected.path, tracing.path)
    header, parts = tracing.header(), {part: part.stat().st_mtime_ns for part in tracing.parts()}
    costs = tracing.path / "costs.json"
    measured = costs.read_text()
    assert tracing.run() == 0
    assert costs.read_text() == measured
    costs.unlink()
    assert tracing.run() == 0
    said = capsys.readouterr().err
    assert "at temperature 0, a draft step takes" in said and "at temperature 1, a draft step takes" in said
    both = json.loads(costs.read_text())
    edit(costs, costs={"0": both["costs"]["0"]})
    assert tracing.run() == 0
    assert "at temperature 0" not in capsys.readouterr().err
    now = json.loads(costs.read_text())
    assert now["format"] == 2 and now["costs"].keys() == {"0", "1"} and now["costs"]["0"] == both["costs"]["0"]
    costs.write_text(json.dumps(both["costs"]["1"]))  # of the format of one temperature
    assert tracing.run() == 2
    assert "costs.json: key 'format' is missing; expected 2" in capsys.readouterr().err
    assert tracing.header() == header
    assert {part: part.stat().st_mtime_ns for part in tracing.parts()} == parts


def test_more_prompts_extend_it(tmp_path, collected):
    tracing = Tracing(tmp_path)
    assert tracing.run("data.tasks.0.limit=3", "trace.temperatures=[0.0]", "trace.costs.prompts=0") == 0
    first = {part: part.stat().st_mtime_ns for part in tracing.parts()}
    assert len(first) == 1
    assert tracing.run("trace.costs.prompts=0") == 0
    assert {part: part.stat().st_mtime_ns for part in first} == first
    assert_each_once(tracing)
    assert_same_rows(tracing.rows(), collected.rows())
    assert tracing.run("data.tasks.0.limit=5", "trace.temperatures=[1.0]", "trace.costs.prompts=0") == 0
    assert tracing.header()["temperatures"] == [0.0, 1.0]
    assert [task["limit"] for task in tracing.header()["data"]] == [3, PROMPTS, 5], "whose rows are there was forgotten"
    assert_each_once(tracing)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_texts_are_those_of_a_run_without_a_trace(collected, temperature):
    recipe = collect.load(collected.recipe, [])
    models = Models(recipe.target)
    proposer = draft_model.build(config.parse(draft_model.Config, {"model": _draft(recipe)}, "test"), models)
    asked = answers.asked(recipe.data, models.target.tokenizer, "test")
    decoder = SpecDecoder(models.target, proposer, Fixed(WINDOW), Rejection())
    sampling = Sampling(temperature, max_new_tokens=TOKENS)
    done = decoder.generate([Request(one.number, one.tokens) for one in asked], sampling)
    turns = [row for row in collected.rows("rounds").to_pylist() if row["temperature"] == temperature]
    places = [row for row in collected.rows().to_pylist() if row["temperature"] == temperature]
    for one, generation in zip(asked, done, strict=True):
        own = [row for row in turns if row["request"] == one.number]
        assert [row["window"] for row in own] == list(range(len(generation.windows)))
        begun = [row["committed"] - len(one.tokens) for row in own]
        assert begun[0] == 0 and len(generation.tokens) <= TOKENS
        for turn, start, end in zip(own, begun, [*begun[1:], len(generation.tokens)], strict=True):
            window = [row for row in places if (row["request"], row["window"]) == (one.number, turn["window"])]
            tokens = [row["token"] for row in window if row["accepted"]]
            assert [row["depth"] for row in window] == list(range(turn["drafted"]))
            assert all(row["committed"] == turn["committed"] for row in window)
            assert len(tokens) == turn["accepted"] and generation.tokens[start : start + len(tokens)] == tokens
            assert end - start == len(tokens) + 1, "a round adds the accepted prefix and one token of the target's"


def _draft(recipe):
    return recipe.trace.proposer["model"]


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_costs_are_of_every_window(collected, temperature):
    """As many rounds were timed as decoding with windows of 0, 1, ... takes."""
    costs = Trace.open([collected.path]).costs(temperature)
    assert len(costs.draft_ms) == len(costs.verify_ms) == len(costs.rounds) == WINDOW + 1
    assert min(costs.rounds) > 0 and costs.batch == 1 and costs.host_ms > 0
    assert min(costs.verify_ms) > 0 and min(costs.draft_ms[1:]) > 0
    recipe = collect.load(collected.recipe, [])
    models = Models(recipe.target)
    proposer = draft_model.build(config.parse(draft_model.Config, {"model": _draft(recipe)}, "test"), models)
    asked = answers.asked(recipe.data, models.target.tokenizer, "test")[:2]
    rounds = 0
    for k in range(WINDOW + 1):
        decoder = SpecDecoder(models.target, proposer, Fixed(k), Rejection())
        for one in asked:
            done = decoder.generate([Request(one.number, one.tokens)], Sampling(temperature, max_new_tokens=8))
            rounds += len(done[0].windows)
    assert sum(costs.rounds) == rounds


OTHERS = {
    "draft": ["trace.proposer.model.draft_from.layers=[1]"],
    "target": ["target.name=tiny-random:llama:7"],
    "precision": ["target.dtype=bfloat16"],
    "grid": ["trace.lenience=[1.0, 2.0]"],
    "window": ["trace.window=5"],
    "length": ["trace.max_new_tokens=17"],
    "seed": ["trace.seed=1"],
    "states": ["trace.hidden=[]"],
}


@pytest.mark.parametrize("overrides", OTHERS.values(), ids=OTHERS)
def test_another_trace_is_not_mixed_in(collected, overrides, capsys):
    before = collected.files()
    assert collected.run(*overrides) == 2
    said = capsys.readouterr().err
    assert f"{collected.path / 'trace.json'} holds a trace with" in said and "Set trace.path to another" in said
    assert collected.files() == before


def test_another_wording_is_not_the_same_prompt(collected, capsys):
    before = collected.files()
    assert collected.run("data.tasks.0.style=cot") == 2
    said = capsys.readouterr().err
    assert "key 'data.tasks'" in said and "another style, template or wording. Set trace.path" in said
    assert collected.files() == before


REFUSED = {
    "key 'trace.lenience' is [1.5, 2.0]; expected ascending multipliers, the first of them 1": "lenience=[1.5, 2.0]",
    "key 'trace.lenience' is [1.0, 2.0, 2.0]; expected asc": "lenience=[1.0, 2.0, 2.0]",
    "key 'trace.lenience' is []; expected asc": "lenience=[]",
    "key 'trace.hidden' is ['drafts']; expected some of draft, target": "hidden=[drafts]",
    "key 'trace.temperatures' is []": "temperatures=[]",
    "key 'trace.temperatures' is [1.0, 1.0]; expected one temperature or more, each once": "temperatures=[1, 1]",
    "key 'trace.window' is 1; expected 2 to 64": "window=1",
    "key 'trace.max_new_tokens' is 1; expected 2 or more": "max_new_tokens=1",
    "key 'trace.costs.max_new_tokens' is 8; expected 11 or more": "window=10",
    "key 'trace.proposer' is None; expected a piece": "proposer=null",
    "this one has no draft logits": "proposer={type: ngram}",
}


@pytest.mark.parametrize(("message", "override"), REFUSED.items(), ids=REFUSED.values())
def test_what_cannot_be_meant_is_refused(tmp_path, message, override, capsys):
    made = Tracing(tmp_path)
    assert made.run(f"trace.{override}") == 2
    said = capsys.readouterr().err
    assert str(made.recipe) in said and message in said
    assert not made.path.exists()


def test_answers_and_a_trace_are_two_recipes(tmp_path, capsys):
    assert Tracing(tmp_path).run("answers.path=answers.jsonl") == 2
    assert "has keys 'answers' and 'trace'; expected one of them" in capsys.readouterr().err


def test_states_have_a_budget(tmp_path, capsys):
    made = Tracing(tmp_path)
    assert made.run("trace.budget_gb=0.0001") == 2
    size, _, refusal = capsys.readouterr().err.partition("error:")
    states = PROMPTS * TOKENS * WINDOW * 2  # of two temperatures, at a token a round
    width = Models(ModelConfig("tiny-random:llama", device="cpu")).target.model.config.hidden_size
    assert f"at most {2 * width * states / 1e9:.2f} GB (trace.budget_gb 0.0001)" in size
    assert "key 'trace.budget_gb' is 0.0001" in refusal and "leave trace.hidden empty" in refusal
    assert not made.path.exists()


def test_a_full_disk_between_rounds_and_positions(tmp_path, collected, monkeypatch, capsys):
    """The rounds of the second batch are written, its positions are not: neither counts."""
    made, write, written = Tracing(tmp_path), pq.write_table, []

    def full(table, path, **options):
        written.append(path)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(table, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(tracing.pq, "write_table", full)
        assert made.run() == 2
    assert f"{made.path / 'parts'}: cannot be written (No space left on device)" in capsys.readouterr().err
    assert (len(made.parts("rounds")), len(made.parts())) == (2, 1)
    assert len(Trace.open([made.path]).parts("rounds")) == 1
    # Asked in other batches, so that the files have other names than those of the stopped run
    assert made.run("trace.batch=5", "trace.costs.prompts=0") == 0
    assert_same_rows(made.rows(), collected.rows())
    read = Trace.open([made.path]).rounds()
    assert read.num_rows == collected.rows("rounds").num_rows


@pytest.mark.parametrize("kind", ["positions", "rounds"])
def test_a_damaged_file_is_named_and_can_be_collected_again(tmp_path, collected, kind, capsys):
    made = Tracing(tmp_path)
    shutil.copytree(collected.path, made.path)
    part = made.parts(kind)[1]
    part.write_bytes(part.read_bytes()[:-30])
    if kind == "rounds":
        assert made.run() == 2
        assert f"{part}: not readable as Parquet" in capsys.readouterr().err
    for path in part.parent.glob(f"*-{part.name.partition('-')[2]}"):  # as the message says
        path.unlink()
    assert made.run() == 0
    assert_each_once(made)
    assert_same_rows(made.rows(), collected.rows())


def test_two_do_not_collect_into_one_directory(tmp_path, capsys):
    made = Tracing(tmp_path)
    made.path.mkdir()
    with lock(made.path / ".lock", "not yet"):
        assert made.run() == 2
    assert "another process collects there; wait for it" in capsys.readouterr().err
    assert not (made.path / "trace.json").exists()
