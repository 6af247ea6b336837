"""Files of workflows: what is read, and what is refused with which reason."""

from pathlib import Path

import pytest

from service.errors import ModelNotFoundError
from service.repository.folders import ModelFolders
from service.repository.listing import Listing
from service.repository.workflows import CropStep, Workflow, read_workflows

CARDS = """
description = "Cards"
[steps.cards]
task = "detect"
threshold = 0.5
[steps.pictures]
task = "crop"
most = 4
[steps.label]
task = "classify"
labels = ["a", "b"]
[steps.vector]
task = "embed"
input = "pictures"
model = "emoji"
"""


def read(root: Path, text: str, name: str = "flow") -> Workflow | str:
    folder = root / "workflows"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return read_workflows(root)[name]


def test_a_step_takes_the_one_before_it_unless_it_names_another(tmp_path: Path) -> None:
    workflow = read(tmp_path, CARDS)
    assert isinstance(workflow, Workflow)
    inputs = {name: step.input for name, step in workflow.steps.items()}
    assert inputs == {
        "cards": "input",
        "pictures": "cards",
        "label": "pictures",
        "vector": "pictures",
    }
    assert list(workflow.takers("pictures")) == ["label", "vector"]
    crop = workflow.steps["pictures"]
    assert isinstance(crop, CropStep)
    assert (crop.most, crop.margin, crop.only) == (4, 0.0, None)


def steps(**tables: str) -> str:
    return "\n".join(f"[steps.{name}]\n{table}" for name, table in tables.items())


DETECT, CROP = 'task = "detect"', 'task = "crop"'
EMBED, TRANSLATE = 'task = "embed"', 'task = "translate"'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "steps is missing"),
        ("steps = {}", "there are no steps"),
        ("steps = [", "cannot be read"),
        ("step = 1\n" + steps(a=EMBED), "step is not a known key; did you mean steps?"),
        (steps(a='task = "detekt"'), "did you mean detect?"),
        (steps(a="model = 'x'"), "steps.a.task must be one of detect, crop, classify"),
        (steps(a=f"{DETECT}\ntreshold = 1.0"), "steps.a: treshold is not a known key; did you"),
        (steps(a=f"{DETECT}\nthreshold = 7.0"), "threshold must be less than or equal to 1"),
        (steps(a=f"{EMBED}\ninput = 'b'"), "steps.a.input: there is no step 'b'"),
        (steps(a=EMBED, b=EMBED), "steps.b: embed takes image or text, and a gives vector"),
        (steps(a=TRANSLATE), "steps.a: translate takes text, and input gives image"),
        (steps(a=CROP, b=EMBED), "steps.a: crop takes objects, and input gives image"),
        (steps(a=DETECT, b=EMBED), "steps.b: embed takes image or text, and a gives objects"),
        (steps(a=DETECT, b=CROP), "steps.b: no step takes its crops"),
        (steps(input=EMBED), "steps.input: this cannot be a step's name"),
        ('input = "sound"\n' + steps(a=EMBED), "input must be 'image' or 'text'"),
        (
            'input = "text"\n' + steps(a=f"{TRANSLATE}\ninput = 'c'", b=TRANSLATE, c=TRANSLATE),
            "the steps go round in a circle: ",
        ),
        (
            steps(
                a=DETECT,
                b=f"{CROP}\nmost = 100",
                c=DETECT,
                d=f"{CROP}\nmost = 100",
                e=EMBED,
            ),
            "one input may become 10101 items, over the limit of 1000",
        ),
        (steps(**{f"s{n}": f"{EMBED}\ninput = 'input'" for n in range(33)}), "33 steps are over"),
    ],
)
def test_what_cannot_run_is_refused_with_its_reason(tmp_path: Path, text: str, reason: str) -> None:
    found = read(tmp_path, text)
    assert isinstance(found, str)
    assert reason in found


def test_a_broken_file_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "outside.toml").write_text(CARDS, encoding="utf-8")
    root = tmp_path / "repository"
    root.mkdir()
    assert isinstance(read(root, "x", "broken"), str)
    assert isinstance(read(root, CARDS, "good"), Workflow)
    (root / "workflows" / "link.toml").symlink_to(tmp_path / "outside.toml")
    (root / "workflows" / "b ad.toml").write_text(CARDS, encoding="utf-8")
    (root / "workflows" / "folder.toml").mkdir()
    found = read_workflows(root)
    assert {name for name, each in found.items() if isinstance(each, Workflow)} == {"good"}
    assert "link out of the repository" in str(found["link"])
    assert set(found) == {"b ad", "broken", "folder", "good", "link"}


def test_the_folder_is_no_model(tmp_path: Path) -> None:
    read(tmp_path, CARDS)
    contents = ModelFolders(tmp_path).contents()
    assert (contents.models, contents.unusable) == ((), {})
    assert set(contents.workflows) == {"flow"}
    with pytest.raises(ModelNotFoundError):
        ModelFolders(tmp_path).versions("workflows")


def test_a_file_that_breaks_leaves_the_workflow_that_was_read_before(tmp_path: Path) -> None:
    listing = Listing(ModelFolders(tmp_path))
    read(tmp_path, CARDS)
    listing.read()
    good = listing._workflows["flow"].workflow
    read(tmp_path, "x")
    listing.read()
    listed = listing._workflows["flow"]
    assert listed.workflow is good
    assert listed.reason is not None
    assert "flow.toml cannot be read" in listed.reason
