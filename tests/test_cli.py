"""The command: what it prints, and its exit codes."""

import json
import subprocess
import sys

import pytest

from tests.artifacts import manifest
from toolkit import __version__, artifact, cli, tiny
from toolkit.errors import UserError

RUN = "import sys; from toolkit.cli import main; sys.exit(main(sys.argv[1:]))"


def draftsmith(*arguments):
    return subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, timeout=120)


def test_list_answers_without_torch():
    check = "import sys; from toolkit.cli import main; main(['list']); assert not {'torch', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for word in ("methods", "ngram", "gsm8k", "rejection", "tiny-random:llama"):
        assert word in done.stdout


def test_list_json_is_json(capsys):
    assert cli.main(["list", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert set(listing) == {"methods", "proposers", "lengths", "acceptance", "routers", "tasks", "models"}


def test_version(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["--version"])
    assert done.value.code == 0
    assert __version__ in capsys.readouterr().out


def test_an_unknown_recipe_key_exits_2_with_the_file_and_key(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("target: tiny-random:llama\nmethds: [ngram]\n")
    done = draftsmith("eval", str(recipe))
    assert done.returncode == 2
    assert "mine.yaml:2: unknown key 'methds'. Did you mean 'methods'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [recipe], "something was written"


def test_a_bad_override_exits_2(capsys):
    assert cli.main(["generate", "Hi", "--target", "tiny-random:llama", "sampling.temperatur=1"]) == 2
    assert capsys.readouterr().err.startswith("error: override 'sampling.temperatur=1'")


def test_an_interrupt_exits_130(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_list", interrupted)
    assert cli.main(["list"]) == 130


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(_):
        raise ValueError("a bug")

    monkeypatch.setattr(cli, "_list", broken)
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["list"])


def test_a_chat_template_that_refuses_is_a_users_error(capsys, monkeypatch):
    refuses = "{{ raise_exception('no system prompt here') if messages[0].role == 'system' }}hi"
    build = tiny.build

    def built(name):
        model, tokenizer = build(name)
        tokenizer.chat_template = refuses
        return model, tokenizer

    monkeypatch.setattr(tiny, "build", built)
    arguments = ["generate", "Hi", "--target", "tiny-random:llama", "sampling.max_new_tokens=2", "target.device=cpu"]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    assert cli.main([*arguments, "system=Be brief"]) == 2
    assert "refuses these messages (no system prompt here)" in capsys.readouterr().err


def test_generate_streams_and_reports(capsys):
    arguments = ["generate", "--method", "baseline", "Hi", "--target", "tiny-random:llama"]
    assert cli.main([*arguments, "sampling.max_new_tokens=5", "target.device=cpu", "system=Be brief"]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip()
    assert "[baseline] " in shown.err
    assert "1.00 a round, accepted none proposed, lossless, ended by " in shown.err


# ---- artifacts


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "mine"
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(b"invented")
    artifact.write(
        path, manifest(binds={"target": {"name": "m", "fingerprint": "a1" * 32, "tokenizer": "", "adapters": []}})
    )
    return path


def test_describe_is_short_and_says_what_it_goes_with(directory, capsys):
    assert cli.main(["describe", str(directory)]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 16
    for line in ("provides", "LoRA SFT", "m, weights a1a1a1a1a1a1...", "3 rows", "nothing yet", "skipped: a test"):
        assert line in shown


def test_describe_json_is_the_manifest(directory, capsys):
    assert cli.main(["describe", "--json", str(directory)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((directory / "manifest.json").read_text())


def test_describe_answers_without_torch(directory):
    check = "import sys; from toolkit.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", check, "describe", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_check_tries_what_was_not_tried_and_writes_it_down(directory, monkeypatch, capsys):
    tried = []

    def smoke(where, found):
        tried.append((where, found.smoke))
        return {"prompts": 4, "tokens": 77}

    monkeypatch.setattr(cli, "_smoke", smoke)
    for _ in range(2):
        assert cli.main(["check", str(directory)]) == 0
        assert "prompts 4, tokens 77" in capsys.readouterr().out
    assert tried == [(directory, {"skipped": "a test"})], "once is enough"
    assert artifact.verify(directory).smoke == {"prompts": 4, "tokens": 77}


def test_check_of_a_damaged_file_exits_2_untried(directory, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_smoke", lambda *_: pytest.fail("tried"))
    (directory / "adapter_model.safetensors").write_bytes(b"inventee")
    assert cli.main(["check", str(directory)]) == 2
    assert "adapter_model.safetensors: SHA-256 is" in capsys.readouterr().err


def test_check_of_what_does_not_decode_exits_2_and_changes_nothing(directory, monkeypatch, capsys):
    def smoke(*_):
        raise UserError("it decodes no token")

    monkeypatch.setattr(cli, "_smoke", smoke)
    before = (directory / "manifest.json").read_text()
    assert cli.main(["check", str(directory)]) == 2
    assert "it decodes no token" in capsys.readouterr().err
    assert (directory / "manifest.json").read_text() == before


@pytest.mark.parametrize(
    "options",
    [[], ["--merge", "out", "--dry-run"], ["--push", "a/b", "--target", "m"], ["--merge", "o", "--push", "a/b"]],
)
def test_export_options_that_do_not_go_together_exit_2(directory, options):
    with pytest.raises(SystemExit) as done:
        cli.main(["export", str(directory), *options])
    assert done.value.code == 2
