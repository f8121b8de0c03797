"""What a user can get wrong: said clearly, with exit code 2, and nothing is lost."""

import json
import re
import subprocess

import pytest

from tests.training.runs import EVERY, Training, furthest, sums, write_rows


def changed(number, **fields):
    """The rows with one of them changed; None takes a field out."""
    rows = sums()
    rows[number] = {key: value for key, value in (rows[number] | fields).items() if value is not None}
    return rows


def refused(training, capsys, *overrides):
    """The error, which must not be a traceback."""
    assert training.run(*overrides) == 2
    assert not training.out.exists()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return next(line for line in said.splitlines() if line.startswith("error: "))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(2, prompt=None), r"sums.jsonl, line 3: .*'prompt'"),
        (changed(2, response=None), r"sums.jsonl, line 3: field 'response' is missing"),
        (changed(2, response=" \n"), r"sums.jsonl, line 3: field 'response' is empty"),
        ([{"prompt": row["prompt"]} for row in sums()], r"0 usable rows \(\{'no answer': 40\}\)"),
        (sums(1), r"1 usable rows \(nothing was dropped\); expected at least 2"),
    ],
)
def test_bad_rows(tmp_path, capsys, rows, message):
    training = Training(tmp_path)
    write_rows(training.data, rows)
    assert re.search(message, refused(training, capsys))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lora.targets=[q_proj, w_proj]", r"'lora.targets': no module of the model is called 'w_proj'. .*There are: "),
        ("lora.targets=[mlp]", r"'lora.targets': no module of the model is called 'mlp'"),
        ("lora.rnk=4", r"unknown key 'lora.rnk'. Did you mean 'rank'"),
        ("train.logger=mlflow", r"key 'train.logger' is 'mlflow'; expected one of none, tensorboard, trackio, wandb"),
        ("train.batch=0", r"key 'train.batch' is 0; expected 1 or more"),
        ("data.valid=0", r"key 'data.valid' is 0"),
        ("data.max_length=9", r"0 usable rows \(\{'overlong': 40\}\).*max_length may be too small"),
        ("model=target", r"key 'target' is None; expected a model, as model.name is 'target'"),
        ("model={name: 'tiny-random:llama', adapters: [nowhere]}", r"adapter 'nowhere': no adapter_config.json"),
        ("data.tasks=[{type: steps, split: train, style: direct, limit: 4}]", r"0 usable rows \(\{'no answer': 4\}\)"),
        ("data.responses=nowhere.jsonl", r"key 'data.responses': nowhere.jsonl is not there. train/cot_cod.py makes"),
    ],
)
def test_bad_values(tmp_path, capsys, override, message):
    assert re.search(message, refused(Training(tmp_path), capsys, override))


def test_a_logger_that_is_not_installed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "wandb is not installed. `pip install wandb`" in refused(Training(tmp_path), capsys, "train.logger=wandb")


def test_an_adapter_of_another_base(whole, tmp_path, capsys):
    model = f"model={{name: 'tiny-random:qwen2', adapters: [{whole.out}]}}"
    said = refused(Training(tmp_path), capsys, model)
    assert "trained for another model" in said and "'tiny-random:llama' there, 'tiny-random:qwen2' here" in said


def test_overlong_rows_are_dropped_and_counted(tmp_path, capsys):
    training = Training(tmp_path)
    write_rows(training.data, sums() + [{"prompt": "Say a!", "response": "a" * 100}] * 3)
    assert training.run("train.epochs=1") == 0
    assert "dropped: 3 overlong" in capsys.readouterr().err
    about = training.manifest()["data"]
    assert about["dropped"] == {"overlong": 3} and about["rows"] + about["valid_rows"] == len(sums())


def test_a_directory_of_something_else_is_left_alone(tmp_path, capsys):
    training = Training(tmp_path)
    training.out.mkdir(parents=True)
    (training.out / "notes.txt").write_text("mine")
    assert training.run() == 2
    assert "is there and is no artifact" in capsys.readouterr().err
    assert [path.name for path in training.out.iterdir()] == ["notes.txt"]


@pytest.fixture
def disk(tmp_path):
    """A small disk -> how to change its size."""
    path = tmp_path / "out"
    path.mkdir()

    def mount(*options):
        return subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", path], capture_output=True, text=True)

    made = mount("-o", "size=600k")  # two checkpoints fit, a third does not
    if made.returncode:
        pytest.skip(f"a disk cannot be mounted here: {made.stderr.strip()}")
    yield lambda size: mount("-o", f"remount,size={size}").check_returncode()
    subprocess.run(["umount", path], check=True)


def test_a_full_disk(disk, tmp_path, capsys, whole):
    training = Training(tmp_path)
    assert training.run() == 2
    said = capsys.readouterr().err
    assert "could not be written" in said and "free some space and run the same command again" in said
    assert "Traceback" not in said and not training.out.exists()
    kept = training.checkpoints()
    assert kept and kept[0] == EVERY
    states = [json.loads(path.read_text()) for path in training.work.glob("checkpoint-*/trainer_state.json")]
    assert sorted(state["global_step"] for state in states) == kept
    disk("64m")
    assert training.run() == 0
    assert f"going on from checkpoint-{kept[-1]}" in capsys.readouterr().err
    assert furthest(training.weights(), whole.weights()) < 1e-6
