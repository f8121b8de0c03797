"""`python -m eval DIR...`: what the manifests of artifacts make of them, and what is refused."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.artifacts import TINY, eagle_head, manifest
from tests.evaluation.composing import change, everything
from toolkit import artifact, cli
from toolkit.errors import UserError
from toolkit.evaluation import compositions
from toolkit.evaluation.compose import compose
from toolkit.evaluation.run import main

METHODS = [
    "baseline",
    "head",
    "small",
    "large",
    "stop",
    "policy",
    "policy-length_then_verif",
    "judge",
    "gate",
    "router",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture
def paths(made, tmp_path):
    """A copy to move and to damage: what the manifests name is still where it was."""
    for path in made.values():
        shutil.copytree(path, tmp_path / "moved" / Path(path).name)
    return {name: str(tmp_path / "moved" / name) for name in made}


def task(tiny):
    return f"{{type: jsonl, path: {tiny.data}}}"


def method(found, name):
    [one] = [one for one in found.methods if one["name"] == name]
    return one


def test_every_kind_becomes_a_method_and_is_run(tiny, made, capsys):
    options = ["sampling.max_new_tokens=8", "speed.prompts=2", "quality.prompts=2", f"out={tiny.out}"]
    assert main([*made.values(), "--task", task(tiny), *options]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"cot-jsonl: target {TINY} + {made['cot']}, task jsonl")
    assert "  stop: proposer eagle3 (head " in said and "left out" not in said
    assert said.index("  gate: proposer consensus (d1 ") < said.index("table.md"), "said before it ran"
    rows = tiny.rows()
    assert {row["status"] for row in rows} == {"ok"}
    assert [name for name in METHODS if name in {row["method"] for row in rows}] == METHODS
    assert tiny.results()["recipe"]["target"]["adapters"] == [made["cot"]]


def test_directories_end_in_one_report(tiny, made, capsys):
    options = ["sampling.max_new_tokens=8", "speed.prompts=5", "quality.prompts=2", f"out={tiny.out}"]
    tasks = ["--task", task(tiny), "--task", "{type: gsm_symbolic, limit: 5}"]
    assert cli.main(["eval", made["cot"], made["small"], *tasks, *options]) == 0
    page = (tiny.out / "report" / "report.html").read_text()
    assert "jsonl" in page and "gsm_symbolic" in page and "small" in page
    assert f"{tiny.out}/report/report.html: " in capsys.readouterr().out


def test_the_written_recipe_is_the_same_run(tiny, made):
    options = ["sampling.max_new_tokens=8", "speed.prompts=1", "quality.enabled=false", f"out={tiny.out}"]
    assert main([made["cot"], made["head"], made["small"], "--task", task(tiny), *options]) == 0
    before = tiny.records.read_bytes()
    written = tiny.out / "recipe.yaml"
    assert written.read_text().startswith(f"# python -m eval {written}\n")
    assert main([str(written)]) == 0
    assert tiny.records.read_bytes() == before, "nothing is decoded again"
    assert tiny.results()["name"] == tiny.out.name
    tree = yaml.safe_load(written.read_text())
    assert [one["name"] for one in tree["methods"]] == ["head", "small"] and tree["speed"]["prompts"] == 1


def test_a_recipe_of_a_file_is_written_too_with_its_overrides(tiny):
    tiny.run("methods=[]", "sampling.max_new_tokens=4")
    tree = yaml.safe_load((tiny.out / "recipe.yaml").read_text())
    assert tree["methods"] == [] and tree["sampling"]["max_new_tokens"] == 4 and tree["target"]["name"] == TINY


def test_drafts_are_found_where_they_were_moved(paths, tmp_path):
    for name in ("head", "small", "large", "cot"):  # neither their places nor their names are those of the manifests
        shutil.move(paths[name], tmp_path / f"other-{name}")
        paths[name] = str(tmp_path / f"other-{name}")
    [found] = compositions.of(list(paths.values()), 0.0)
    assert found.target == {"name": TINY, "adapters": [paths["cot"]]}
    assert method(found, "stop")["proposer"] == {"type": "eagle3", "head": paths["head"]}
    assert method(found, "policy")["length"]["policy"] == method(found, "policy")["accept"]["policy"] == paths["policy"]
    gate = method(found, "gate")["proposer"]
    assert (gate["d1"], gate["d2"], gate["gate"]) == ({"name": paths["small"]}, {"name": paths["large"]}, paths["gate"])


def test_what_is_not_named_is_taken_from_where_the_manifest_says(made):
    [found] = compositions.of([made["stop"], made["judge"]], 0.0)
    assert found.target["adapters"] == [made["cot"]]
    assert method(found, "stop")["proposer"]["head"] == made["head"]
    assert method(found, "judge")["proposer"]["model"]["name"] == made["large"]


def test_a_recipe_a_target_and_a_task(tiny, made, tmp_path, capsys):
    base = eagle_head(tmp_path / "base-head")[0]
    steps = "{type: steps, limit: 2}"
    found = compose([made["small"], base], [task(tiny), steps], ["out=results/all", "speed.prompts=3"])
    assert [one.name for one in found] == [
        "cot-jsonl",
        "cot-steps",
        "tiny-random-llama-jsonl",
        "tiny-random-llama-steps",
    ]
    assert [one.recipe.out for one in found] == [f"results/all/{one.name}" for one in found]
    assert [[node["name"] for node in one.recipe.methods] for one in found] == [["small"]] * 2 + [["base-head"]] * 2
    assert {one.recipe.speed.prompts for one in found} == {3}
    options = ["sampling.max_new_tokens=4", "speed.prompts=1", "quality.enabled=false", f"out={tmp_path / 'all'}"]
    assert main([made["cot"], base, "--task", task(tiny), *options]) == 0
    both = [str(tmp_path / "all" / name) for name in ("cot-jsonl", "tiny-random-llama-jsonl")]
    assert f"draftsmith report {' '.join(both)} --out {tmp_path}/all/report" in capsys.readouterr().out
    assert all((Path(path) / "records.jsonl").is_file() for path in both)


def test_what_is_of_another_temperature_is_left_out_and_said(made, paths, tiny, capsys):
    [found] = compositions.of([made["stop"], made["policy"], made["gate"], made["judge"]], 1.0)
    assert [one["name"] for one in found.methods] == ["judge"]
    again = ". To have it run once more with sampling.temperature=0.0 and another out=DIR"
    assert found.left_out[made["policy"]] == f"trained at temperature 0; sampling.temperature is 1{again}"
    assert found.left_out[made["gate"]] == f"a consensus gate decodes greedily; sampling.temperature is 1{again}"
    change(paths["policy"], recipe={"path": "r", "command": "r", "config": {"temperature": 1.0}})
    [found] = compositions.of([paths["policy"]], 0.0)
    assert found.left_out[paths["policy"]].endswith("with sampling.temperature=1.0 and another out=DIR")
    options = ["sampling.max_new_tokens=4", "speed.prompts=1", "quality.enabled=false", f"out={tiny.out}"]
    assert main([made["policy"], "--task", task(tiny), "sampling.temperature=0.5", *options]) == 0
    assert (
        f"left out: {made['policy']}: trained at temperature 0; sampling.temperature is 0.5" in capsys.readouterr().out
    )


def test_other_weights_of_a_head_are_refused(paths):
    shutil.rmtree(paths["head"])
    eagle_head(Path(paths["head"]), aux=(0, 0, 1), bound=False)
    artifact.write(
        Path(paths["head"]),
        manifest(kind="eagle3", provides=["proposer"], binds=artifact.read(Path(paths["stop"])).binds),
    )
    with pytest.raises(UserError, match="was trained with the draft .*head, weights"):
        compositions.of([paths["head"], paths["stop"]], 0.0)


def test_other_weights_of_a_draft_are_refused_before_anything_is_decoded(paths, tiny, capsys):
    shutil.rmtree(paths["small"])
    shutil.copytree(paths["large"], paths["small"])  # under the other's name
    named = [paths[name] for name in ("cot", "small", "large", "gate")]
    assert main([*named, "--task", task(tiny), f"out={tiny.out}"]) == 2
    assert "weights" in capsys.readouterr().err
    assert not tiny.records.exists()


@pytest.mark.parametrize("lost", ["head", "cot"])
def test_what_is_nowhere_is_asked_for(paths, lost):
    for name in ("stop",):
        node = artifact.read(Path(paths[name])).composes
        gone = str(Path(paths[lost]).with_name("gone"))
        node["proposer"]["head"] = gone if lost == "head" else node["proposer"]["head"]
        node["target"]["adapters"] = [gone] if lost == "cot" else node["target"]["adapters"]
        change(paths[name], composes=node)
    message = "Name the draft's directory too" if lost == "head" else "Name its directory too"
    with pytest.raises(UserError, match=message):
        compositions.of([paths["stop"]], 0.0)


def test_a_head_of_another_target_goes_to_that_target_and_is_no_draft_of_this_one(made, paths, tmp_path):
    base = eagle_head(tmp_path / "other" / "head")[0]  # its name is the one that the manifest of `stop` has
    one, other = compositions.of([made["stop"], base], 0.0)
    assert method(one, "stop")["proposer"]["head"] == made["head"] and one.target["adapters"] == [made["cot"]]
    assert method(other, "head")["proposer"]["head"] == base and other.target == {"name": TINY, "adapters": []}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"binds": {}}, "is bound to no target"),
        ({"provides": [], "composes": {}}, "provides nothing: no method is known that it makes"),
        ({"composes": {"accept": {"type": "autojudge"}}}, "provides accept: no method is known that it makes"),
        ({"provides": ["proposer"], "composes": {}}, "of kind 'autojudge', provides proposer: no method is known"),
    ],
)
def test_what_nothing_can_be_made_of(paths, changes, message):
    change(paths["judge"], **changes)
    with pytest.raises(UserError, match=message):
        compositions.of([paths["cot"], paths["judge"]], 0.0)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("checkpoints/smol-cott", "checkpoints/smol-cot"),
        ("checkpoint/smol-cot", "checkpoints/smol-cot"),
        ("checkpoints/typo", "checkpoints/smol-cot"),
        ("mine.yml", "mine.yaml"),
        ("recipes/eval/smok.yaml", "recipes/eval/smoke.yaml"),
    ],
)
def test_a_slip_of_the_pen_is_shown_what_is_there(tmp_path, monkeypatch, capsys, word, meant):
    (tmp_path / "checkpoints" / "smol-cot").mkdir(parents=True)
    (tmp_path / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert main([word]) == 2
    said = capsys.readouterr().err
    assert f"{word}: no directory, no recipe and no key=value. Did you mean '{meant}'" in said


def test_words_that_name_nothing(made, tiny, tmp_path, capsys):
    assert main([made["cot"], str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no directory, no recipe and no key=value." in capsys.readouterr().err
    assert main([str(tiny.recipe), made["cot"]]) == 2
    assert "tiny.yaml: a file among 2 names. Expected one recipe, or directories" in capsys.readouterr().err
    assert main([str(tiny.recipe), "--task", "gsm8k", "--task", "steps"]) == 2
    assert "tiny.yaml: a recipe has one task; --task is there 2 times" in capsys.readouterr().err
    assert main(["speed.prompts=3"]) == 2
    assert "nothing to run is named. Expected one recipe, or directories" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "no manifest.json, so this is no artifact" in capsys.readouterr().err
    assert main([made["small"], f"{made['small']}/."]) == 2
    assert "is there twice" in capsys.readouterr().err
    shutil.copytree(made["small"], tmp_path / "small")
    assert main([made["small"], str(tmp_path / "small")]) == 2
    assert "rename one of them" in capsys.readouterr().err
    assert main([made["small"], "--task", "gsm8k", "speed.promts=3"]) == 2
    assert "unknown key 'speed.promts'" in capsys.readouterr().err
    assert main([made["small"], "--task", "{type", "speed.prompts=3"]) == 2
    assert "--task: '{type' is not a YAML value; quote it" in capsys.readouterr().err
    assert main([made["small"], "--task", "gsm8", "speed.prompts=3"]) == 2
    assert "gsm8" in capsys.readouterr().err
