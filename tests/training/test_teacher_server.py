"""Servers that are busy, broken, unwilling or elsewhere; and the key, which only the right one gets to see."""

import time

import pytest

from tests.training.stub_endpoint import KEY, Response, Stub, solved
from tests.training.teaching import Teaching, assert_no_secret, surround
from toolkit.training import _endpoint, _session


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    surround(tmp_path, monkeypatch)


def test_a_busy_server_is_asked_again(monkeypatch):
    """Each wait is twice as long as the one before, or as long as the server says."""

    def answer(question, before):
        if before < 2:
            return Response(status=429, text="slow down", headers={"Retry-After": "7"} if before else {})
        return Response(status=503, text="not now") if before == 2 else solved(question)

    waits = []
    monkeypatch.setattr(_endpoint.random, "uniform", lambda low, high: 1.0)
    with Stub(answer) as server:
        endpoint = _endpoint.Endpoint(_endpoint.EndpointConfig(server.url, "stub", key_env=None))
        monkeypatch.setattr(endpoint.stopped, "wait", waits.append)
        reply = endpoint.ask([{"role": "user", "content": "What is 1 + 1?"}])
    assert reply.text.endswith("#### 2")
    assert waits == [0.01, 7.0, 0.04]


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("soon", None), (None, None)]
)
def test_what_retry_after_says(header, seconds):
    assert _endpoint._seconds(header) == seconds


def test_a_server_that_asks_for_a_day_is_not_waited_for(tmp_path):
    busy = Response(status=429, text="quota", headers={"Retry-After": "86400"})
    with Stub(lambda *_: busy) as server:
        teaching = Teaching(tmp_path, server.url, count=1)
        assert teaching.run() == 1
    assert len(server.asked) == 1
    assert teaching.state()["failures"] == {"sum-0": "HTTP 429: quota; the server asks to wait 86400 s"}


def test_429_twice_for_every_problem_then_answers(tmp_path):
    with Stub(lambda question, before: solved(question) if before == 2 else Response(status=429)) as server:
        teaching = Teaching(tmp_path, server.url)
        assert teaching.run() == 0
    assert len(server.asked) == 18
    assert teaching.state()["counts"] == {"good": 6}


def test_a_lost_connection_and_a_late_answer_are_asked_for_again(tmp_path):
    def answer(question, before):
        if before == 1:
            time.sleep(0.5)
        return solved(question) if before else Response(status=0)

    with Stub(answer) as server:
        teaching = Teaching(tmp_path, server.url, count=2)
        assert teaching.run("endpoint.timeout_s=0.2") == 0
    assert sorted(server.asked) == sorted(teaching.questions * 3)
    assert len(teaching.rows()) == 2


def test_a_failed_request_is_named_and_asked_again_by_the_next_run(tmp_path, capsys):
    broken = {"What is 4 + 2?"}

    def answer(question, before):
        return Response(status=500, text=f"out of order, {KEY}") if question in broken else solved(question)

    with Stub(answer) as server:
        teaching = Teaching(tmp_path, server.url)
        assert teaching.run("endpoint.retries=1") == 1
        assert server.asked.count("What is 4 + 2?") == 2
        assert list(teaching.state()["failures"]) == ["sum-4"]
        assert "out of order, [key] (2 attempts)" in teaching.state()["failures"]["sum-4"]
        assert teaching.state()["counts"] == {"good": 5, "unanswered": 1}
        broken.clear()
        assert teaching.run() == 0
    assert len(server.asked) == 6 + 1 + 1
    assert teaching.state()["failures"] == {}
    assert_no_secret(teaching.out, capsys)


def test_a_server_that_never_answers_ends_the_run(tmp_path, capsys):
    with Stub(lambda question, _: Response(raw=b"<html>welcome</html>")) as server:
        teaching = Teaching(tmp_path, server.url, count=40)
        assert teaching.run("endpoint.parallel=2") == 2
    assert len(server.asked) <= _session.GIVE_UP + 2
    assert "not a chat completion: <html>" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "hint"), [(401, "TEACHER_KEY"), (403, "TEACHER_KEY"), (404, "endpoint.model")])
def test_a_refusal_ends_the_run_at_once(tmp_path, capsys, status, hint):
    with Stub(lambda *_: Response(status=status, text=f"no entry for {KEY}")) as server:
        teaching = Teaching(tmp_path, server.url, count=40)
        assert teaching.run("endpoint.parallel=1") == 2
    assert len(server.asked) == 1
    said = capsys.readouterr()
    assert f"HTTP {status}: no entry for [key]" in said.err
    assert hint in said.err
    assert server.url in said.err


def test_a_mistyped_model_leaves_nothing_in_the_way(tmp_path):
    with Stub(
        lambda question, _: Response(404) if server.bodies[-1]["model"] == "stbu" else solved(question)
    ) as server:
        teaching = Teaching(tmp_path, server.url)
        assert teaching.run("endpoint.model=stbu") == 2
        assert teaching.run() == 0
    assert teaching.state()["identity"]["endpoint.model"] == "stub"
    assert len(teaching.rows("train")) == 6


def test_a_redirect_does_not_get_the_key(tmp_path, capsys):
    with Stub() as other, Stub(lambda *_: Response(status=302, headers={"Location": other.url})) as server:
        assert Teaching(tmp_path, server.url).run("endpoint.parallel=1") == 2
    assert other.authorization == []
    assert "redirect" in capsys.readouterr().err


def test_the_key_may_stand_in_a_dotenv_file(tmp_path, monkeypatch):
    monkeypatch.delenv("TEACHER_KEY")
    (tmp_path / ".env").write_text('# keys\nOTHER=1\nexport TEACHER_KEY="from-the-file"\n')
    assert _endpoint.key("TEACHER_KEY") == "from-the-file"
    monkeypatch.setenv("TEACHER_KEY", "from-outside")
    assert _endpoint.key("TEACHER_KEY") == "from-outside"


def test_without_a_key_nothing_is_sent(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TEACHER_KEY")
    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        assert teaching.run() == 2
        assert "TEACHER_KEY is not set" in capsys.readouterr().err
        assert server.asked == []
        assert teaching.run("endpoint.key_env=null") == 0
    assert set(server.authorization) == {None}


def test_extra_fields_reach_the_server_and_null_takes_one_out(tmp_path):
    with Stub() as server:
        extra = "endpoint.extra={max_tokens: null, max_completion_tokens: 64, chat_template_kwargs: {thinking: false}}"
        assert Teaching(tmp_path, server.url, count=1).run(extra) == 0
    body = server.bodies[0]
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 64
    assert body["chat_template_kwargs"] == {"thinking": False}
