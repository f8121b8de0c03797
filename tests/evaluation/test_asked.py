"""prompts.jsonl: what was asked, once, whatever is added to a run or left out of it later."""

import json

from toolkit import cli
from toolkit.evaluation import asked

RUN = ["methods=[ngram]", "target.device=cpu", "sampling.max_new_tokens=4"]


def test_a_run_keeps_what_was_asked_and_says_so(tiny, capsys):
    assert tiny.run(*RUN) == 0
    assert "prompts.jsonl" in capsys.readouterr().out.splitlines()[-1]
    lines = [json.loads(line) for line in (tiny.out / "prompts.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"p{i}" for i in range(5)]
    messages = [{"role": "user", "content": "2 + 2 = 4. So 2 + 2 is"}]
    assert lines[2] == {"id": "p2", "messages": messages, "follow_ups": []}
    assert asked.read(tiny.out, {"p2", "p7"}).keys() == {"p2"}
    assert cli.main(["validate", "--strict", str(tiny.out)]) == 0


def test_a_longer_run_adds_to_it_and_a_shorter_one_keeps_it(tiny):
    path = tiny.out / "prompts.jsonl"
    assert tiny.run(*RUN, "quality.prompts=2") == 0  # the speed set has three
    short = path.read_bytes()
    assert len(short.splitlines()) == 3
    assert tiny.run(*RUN) == 0
    whole = path.read_bytes()
    assert len(whole.splitlines()) == 5 and whole.startswith(short)
    for overrides in ([], ["quality.prompts=2"]):
        assert tiny.run(*RUN, *overrides) == 0
        assert path.read_bytes() == whole


def test_a_directory_of_an_older_version_gets_it(tiny):
    assert tiny.run(*RUN) == 0
    rows, path = tiny.records.read_bytes(), tiny.out / "prompts.jsonl"
    before = path.read_bytes()
    path.unlink()
    assert asked.read(tiny.out, {"p0"}) == {}
    assert tiny.run(*RUN) == 0
    assert (path.read_bytes(), tiny.records.read_bytes()) == (before, rows)


def test_a_file_that_is_none_is_named(tiny, capsys):
    assert tiny.run(*RUN) == 0
    (tiny.out / "prompts.jsonl").write_text('{"id": "p0"}\n')
    assert tiny.run(*RUN) == 2
    assert f"{tiny.out / 'prompts.jsonl'} line 1: expected a prompt's id, messages" in capsys.readouterr().err
