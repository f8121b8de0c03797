"""What a user can get wrong in a distillation: said clearly, with exit code 2, and nothing is lost."""

import json
import shutil

import pytest

from tests.training.distilling import Distilling

REFUSED = {  # overrides, what is said
    "no such loss": (["loss=forward_lk"], "key 'loss': no loss is called 'forward_lk'. Did you mean 'forward_kl'"),
    "weight": (["loss={mix: {tv: -1.0}}"], "key 'loss.mix'"),
    "beta": (["loss={name: jsd, beta: 1.0}"], "key 'loss.beta' is 1.0"),
    "documents without lm": (["documents.path=x.jsonl"], "key 'documents'"),
    "lm without documents": (["loss=lm"], "key 'documents' is None; expected some with `loss: lm`"),
    "the target itself": (["student={name: target}"], "key 'student' is 'target'; expected draft_from"),
    "share": (["on_policy.share=1.5"], "key 'on_policy.share' is 1.5"),
    "frozen and lora": (["lora.rank=4"], "key 'frozen'"),
    "no such module": (["frozen=[embed_token]"], "no module 'embed_token'. Did you mean 'embed_tokens'"),
    "all frozen": (["frozen=[model,lm_head]"], "nothing is left to train"),
    "no such adapter target": (["lora={targets: [query]}", "frozen=[]"], "key 'lora.targets'"),
    "vocabulary": (["vocabulary.size=4000"], "vocabulary.size is 4000; expected 1 to 259"),
    "layers": (["student={name: target, draft_from: {layers: [7]}}"], "draft_from.layers = [7]"),
    "no answers": (["data.answers=[]"], "key 'data.answers' is []"),
    "capped logits": (["student=tiny-random:gemma2"], "its logits are not its head's output alone"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, adapted, answers, tmp_path, capsys):
    overrides, said = REFUSED[name]
    made = Distilling(tmp_path, adapted, answers)
    assert made.run(*overrides) == 2
    assert said in capsys.readouterr().err
    assert not made.out.exists()


def test_a_loss_that_is_no_number_stops_the_run(adapted, answers, tmp_path, capsys):
    made = Distilling(tmp_path, adapted, answers)
    assert made.run("train.lr=1.0e+30", "train.warmup=0", "train.eval_every=1") == 2
    said = capsys.readouterr().err
    assert "the loss is nan at step" in said and "lower train.lr" in said
    assert made.checkpoints() and not made.out.exists()  # of the steps before


def test_answers_that_are_not_there(adapted, answers, tmp_path, capsys):
    copied = tmp_path / "copied.jsonl"
    shutil.copy(answers, copied)
    made = Distilling(tmp_path, adapted, copied)
    assert made.run() == 2
    assert "copied.parts/identity.json is not there. train/collect.py makes both" in capsys.readouterr().err
    copied.unlink()
    assert made.run() == 2
    assert "copied.jsonl is not there" in capsys.readouterr().err


def test_answers_of_another_target(adapted, answers, tmp_path, capsys):
    made = Distilling(tmp_path, {"name": adapted["name"]}, answers)
    assert made.run() == 2
    assert "holds the answers of another target: adapters differ" in capsys.readouterr().err


def test_a_kept_state_that_is_damaged(adapted, answers, tmp_path, capsys):
    kept = ["features.keep=true", f"features.directory={tmp_path / 'states'}", "train.epochs=1"]
    (tmp_path / "first").mkdir()
    assert Distilling(tmp_path / "first", adapted, answers).run(*kept) == 0
    for path in (tmp_path / "states").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:40])
    made = Distilling(tmp_path, adapted, answers)
    assert made.run(*kept) == 2
    assert "kept hidden states are missing or damaged" in capsys.readouterr().err


def test_another_recipe_does_not_go_on_with_the_run(adapted, answers, tmp_path, capsys):
    made = Distilling(tmp_path, adapted, answers)
    made.work.mkdir(parents=True)
    (made.work / "identity.json").write_text(json.dumps({"recipe": {}, "data": "other", "on": {}}))
    assert made.run() == 2
    assert "was begun with other values of data" in capsys.readouterr().err
