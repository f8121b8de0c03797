"""The mining program: the same rows however it is run, nothing twice, and nothing of another pair among them."""

import json
import random
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.training.mined_by_hand import ByHand
from tests.training.runs import TINY, finish, kill_when, start
from tests.training.traced import PROPOSER, edit
from toolkit import cli, config
from toolkit.errors import UserError
from toolkit.files import lock
from toolkit.hub import ModelConfig, Models
from toolkit.nets.judge import COLUMNS
from toolkit.proposers import draft_model
from toolkit.training import answers, autojudge, main
from toolkit.training.mined import Mined

PROMPTS, TOKENS = 10, 12
PLACE = ("request", "decided")
_EXACT = ("prompt", "request", "position", "target_token", "draft_token", "important", "decided")


class Mining:
    """A recipe in a directory, and what it mines."""

    def __init__(self, directory):
        self.recipe, self.path = directory / "mine.yaml", directory / "mined"
        recipe = {
            "target": {"name": TINY, "device": "cpu"},
            "data": {"tasks": [{"type": "steps", "split": "train", "style": "direct", "limit": PROMPTS}]},
            "mine": {
                "proposer": PROPOSER,
                "path": str(self.path),
                "max_new_tokens": TOKENS,
                "batch": PROMPTS,
                "hidden": ["target", "draft"],
            },
            "judge": None,
        }
        self.recipe.write_text(json.dumps(recipe))  # YAML is a superset of JSON

    def run(self, *overrides):
        """In this process -> exit code."""
        return main.autojudge([str(self.recipe), *overrides])

    def start(self, *overrides, processes=1):
        return start("train/autojudge.py", self.recipe, *overrides, processes=processes)

    def parts(self, kind="prompts"):
        return sorted((self.path / "parts").glob(f"{kind}-*.parquet"))

    def rows(self):
        return Mined.open([self.path]).rows().sort_by([(name, "ascending") for name in PLACE])

    def prompts(self):
        return Mined.open([self.path]).prompts().sort_by("request")

    def files(self):
        return {path: path.stat().st_mtime_ns for path in self.path.rglob("*") if path.name != ".lock"}

    def header(self):
        return json.loads((self.path / "mined.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Mined by one process from beginning to end. Only to be read."""
    mining = Mining(tmp_path_factory.mktemp("whole"))
    assert mining.run() == 0
    return mining


@pytest.fixture
def copied(whole, tmp_path):
    """What was mined, to be changed."""
    mining = Mining(tmp_path)
    shutil.copytree(whole.path, mining.path)
    return mining


def assert_same(one, other):
    """A batch of another size may change the last bits of a number."""
    assert one.schema.equals(other.schema) and one.num_rows == other.num_rows
    for name in one.schema.names:
        if name in _EXACT:
            assert one[name].equals(other[name]), name
            continue
        values = [np.array(table[name].to_pylist(), dtype=np.float64) for table in (one, other)]
        np.testing.assert_allclose(*values, atol=4e-3, rtol=2e-3, err_msg=name)


def assert_same_prompts(one, other):
    names = [name for name in one.schema.names if name != "seconds"]
    assert one.select(names).equals(other.select(names))


def test_rows_are_what_mining_by_hand_decides(whole):
    recipe = autojudge.load(whole.recipe, [])
    models = Models(recipe.target)
    draft = models.load(config.parse(draft_model.Config, {"model": recipe.mine.proposer["model"]}, "test").model)
    hand = ByHand(models.target, draft, TOKENS)
    rows, prompts = whole.rows().to_pylist(), {row["prompt"]: row for row in whole.prompts().to_pylist()}
    asked = answers.asked(recipe.data, models.target.tokenizer, "test")
    assert prompts.keys() == {one.key for one in asked}
    for one in asked:
        found, last = hand.labels(one)
        own, prompt = [row for row in rows if row["prompt"] == one.key], prompts[one.key]
        assert [(r["position"], r["target_token"], r["draft_token"], r["important"]) for r in own] == found
        assert [row["decided"] for row in own] == list(range(len(own))) and prompt["tokens"] == last
        assert prompt["target_tokens"] == hand.text(one.tokens, TOKENS)
        assert prompt["prompt_tokens"] == list(one.tokens) and prompt["digest"] == one.prompt
        assert prompt["alpha"] == one.task.score(one.problem, prompt["target_answer"]).extracted
        assert prompt["correct"] == one.task.score(one.problem, prompt["target_answer"]).correct
        assert prompt["mismatches"] == len(found)
        assert prompt["important"] == sum(important for *_, important in found)
    assert {True, False} == {row["important"] for row in rows}
    assert any(prompt["alpha"] is None for prompt in prompts.values()), "no answer here was without a number"


def test_the_header_says_whose_rows_they_are(whole):
    header = Mined.open([whole.path]).header
    assert (header.hidden, header.temperature, header.max_new_tokens) == ({"draft": 64, "target": 64}, 0.0, TOKENS)
    assert header.binds.keys() == {"target", "draft"} and header.proposer["type"] == "draft_model"
    models = Models(ModelConfig(**header.target))
    assert header.binds["target"] == models.identity()
    assert {"target_hidden", "draft_hidden", *COLUMNS} < set(whole.rows().schema.names)


def test_killed_and_continued_by_two_processes(tmp_path, whole):
    mining = Mining(tmp_path)
    count = random.randrange(1, 5)
    kill_when(mining.start("mine.batch=1"), lambda: len(mining.parts()) >= count)
    before, before_parts = mining.files(), mining.parts()
    assert count <= len(mining.parts()) < PROMPTS
    left_behind = mining.path / "parts" / ".prompts-killed.partial"
    left_behind.write_bytes(b"half a f")
    said = finish(mining.start("mine.batch=2", "mine.window=0", processes=2))
    assert f"{PROMPTS} prompts ({PROMPTS - len(before_parts)} of them new" in said
    assert not left_behind.exists()
    for part in mining.parts():  # what the killed run had finished was left alone
        assert part not in before or part.stat().st_mtime_ns == before[part]
    assert_same(mining.rows(), whole.rows())
    assert len(mining.prompts()) == PROMPTS
    assert_same_prompts(mining.prompts(), whole.prompts())


def test_a_second_start_mines_nothing(copied, capsys):
    parts = {part: part.stat().st_mtime_ns for part in (*copied.parts(), *copied.parts("mismatches"))}
    header = copied.header()
    assert copied.run() == 0
    assert f"{PROMPTS} prompts (0 of them new)" in capsys.readouterr().err
    assert {part: part.stat().st_mtime_ns for part in parts} == parts and copied.header() == header


def test_more_prompts_are_added(tmp_path, whole):
    mining = Mining(tmp_path)
    assert mining.run("data.tasks.0.limit=4") == 0
    first = {part: part.stat().st_mtime_ns for part in mining.parts()}
    assert mining.run() == 0
    assert {part: part.stat().st_mtime_ns for part in first} == first
    assert_same(mining.rows(), whole.rows())
    assert_same_prompts(mining.prompts(), whole.prompts())
    assert [task["limit"] for task in mining.header()["data"]] == [4, PROMPTS]


SHORT = r"[0-9a-f]{12}\.\.\."
OTHERS = {
    "mine.proposer.model.draft_from.layers=[1]": rf"binds.draft.fingerprint {SHORT}, and this recipe has {SHORT}\. ",
    "target.name=tiny-random:llama:7": "binds.target.name '.*', and this recipe has 'tiny-random:llama:7'",
    "mine.max_new_tokens=13": "max_new_tokens 12, and this recipe has 13",
    "mine.hidden=[target]": "hidden.draft [0-9]+, and this recipe has None",
}


@pytest.mark.parametrize(("override", "differs"), OTHERS.items(), ids=["draft", "target", "length", "states"])
def test_another_pair_is_not_mixed_in(whole, override, differs, capsys):
    before = whole.files()
    assert whole.run(override) == 2
    said = capsys.readouterr().err
    assert f"{whole.path / 'mined.json'} holds what was mined with" in said and "Set mine.path to another" in said
    assert re.search(f"mined with {differs}", said) and "{" not in said
    assert whole.files() == before


def test_another_wording_is_not_the_same_prompt(whole, capsys):
    before = whole.files()
    assert whole.run("data.tasks.0.style=cot") == 2
    assert "was mined under another style, template or wording" in capsys.readouterr().err
    assert whole.files() == before


REFUSED = {
    "key 'mine.proposer' is None; expected a draft model": "proposer=null",
    "key 'mine.proposer': mismatches are those of a draft model": "proposer={type: ngram}",
    "key 'mine.max_new_tokens' is 1; expected 2 or more": "max_new_tokens=1",
    "key 'mine.batch' is 0; expected 1 or more": "batch=0",
    "key 'mine.window' is 65; expected 0 (none) to 64": "window=65",
    "key 'mine.hidden' is ['drafts']; expected some of target, draft": "hidden=[drafts]",
    "key 'mine.hidden' is ['target', 'target']; expected some": "hidden=[target, target]",
    "key 'mine.budget_gb' is 1e-06, and hidden states may take 0.00": "budget_gb=1.0e-6",
}


@pytest.mark.parametrize(("message", "override"), REFUSED.items(), ids=REFUSED.values())
def test_what_cannot_be_meant_is_refused(tmp_path, message, override, capsys):
    mining = Mining(tmp_path)
    assert mining.run(f"mine.{override}") == 2
    said = capsys.readouterr().err
    assert str(mining.recipe) in said and message in said
    assert not mining.path.exists()


def test_two_do_not_mine_into_one_directory(tmp_path, capsys):
    mining = Mining(tmp_path)
    mining.path.mkdir()
    with lock(mining.path / ".lock", "not yet"):
        assert mining.run() == 2
    assert "another process collects there; wait for it, end it, or set another mine.path" in capsys.readouterr().err


def test_mismatches_without_their_prompts_do_not_count(copied, whole):
    [part] = copied.parts()
    part.unlink()
    assert Mined.open([copied.path]).prompts().num_rows == 0
    with pytest.raises(UserError, match="no mismatch was mined yet"):
        Mined.open([copied.path]).rows()
    assert copied.run() == 0
    assert_same(copied.rows(), whole.rows())


@pytest.mark.parametrize("kind", ["prompts", "mismatches"])
def test_a_damaged_file_is_named_and_can_be_mined_again(copied, whole, kind):
    [part] = copied.parts(kind)
    part.write_bytes(part.read_bytes()[:-30])
    with pytest.raises(UserError, match=f"{part}: not readable as Parquet") as raised:
        Mined.open([copied.path]).rows()
    assert f"Delete {part.parent}/*-{part.name.partition('-')[2]}" in str(raised.value)
    for path in part.parent.glob(f"*-{part.name.partition('-')[2]}"):  # as the message says
        path.unlink()
    assert copied.run() == 0
    assert_same(copied.rows(), whole.rows())


def test_directories_are_read_together(tmp_path, whole):
    later = Mining(tmp_path)
    assert later.run(f"data.tasks.0.offset={PROMPTS}", "data.tasks.0.limit=4") == 0
    both = Mined.open([whole.path, later.path])
    assert both.rows().num_rows == whole.rows().num_rows + later.rows().num_rows
    assert both.rows(["important", "prompt"]).schema.names == ["important", "prompt"]
    assert both.prompts().num_rows == PROMPTS + 4
    assert len({both.fingerprint(), Mined.open([whole.path]).fingerprint()}) == 2
    with pytest.raises(UserError, match="as .* has. What is learned from together must be of different prompts"):
        Mined.open([whole.path, whole.path]).rows()


def test_what_is_not_of_one_pair_is_not_read_together(whole, copied):
    edit(copied.path / "mined.json", max_new_tokens=99)
    with pytest.raises(UserError, match=r"mined.json: key 'max_new_tokens' is 99, and .* has 12"):
        Mined.open([whole.path, copied.path])


def test_what_is_no_mined_directory_is_refused(copied, tmp_path):
    with pytest.raises(UserError, match="nothing mined: expected one directory"):
        Mined.open([])
    with pytest.raises(UserError, match="no mined.json, so nothing was mined here"):
        Mined.open([tmp_path / "nowhere"])
    edit(copied.path / "mined.json", schema_version=0)
    with pytest.raises(UserError, match="key 'schema_version' is 0; this version of draftsmith reads 1"):
        Mined.open([copied.path])


def test_describe_says_what_was_mined(whole, capsys):
    assert cli.main(["describe", str(whole.path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    rows, prompts = whole.rows(), whole.prompts()
    important = sum(rows["important"].to_pylist())
    for words in (
        f"mismatches {rows.num_rows}, {important} of them important",
        f"prompts {PROMPTS}, {PROMPTS - prompts['alpha'].null_count} of them searched",
        "states kept draft, target",
        "Mismatches by place in the target's answer",
        "entropy_p",
    ):
        assert words in shown
    assert cli.main(["describe", "--json", str(whole.path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["by_part"]["mismatches"]) == found["mismatches"] == rows.num_rows
    assert sum(found["by_part"]["important"]) == found["important"] == important
    assert found["decoded"] == sum(prompts["decoded"].to_pylist())
    matter = [kl for kl, label in zip(rows["kl"].to_pylist(), rows["important"].to_pylist(), strict=True) if label]
    assert found["means"]["kl"]["important"] == pytest.approx(np.mean(matter))


def test_describe_where_nothing_was_mined_yet(copied, capsys):
    shutil.rmtree(copied.path / "parts")
    assert cli.main(["describe", str(copied.path)]) == 2
    assert "holds nothing yet. Run its train/autojudge.py" in capsys.readouterr().err


def test_a_full_disk_between_mismatches_and_prompts(tmp_path, whole, monkeypatch, capsys):
    mining, write, written = Mining(tmp_path), pq.write_table, []

    def full(table, path, **options):
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        write(table, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr("toolkit.training.mining.pq.write_table", full)
        assert mining.run() == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert (len(mining.parts("mismatches")), len(mining.parts())) == (1, 0)
    assert mining.run() == 0
    assert_same(mining.rows(), whole.rows())
