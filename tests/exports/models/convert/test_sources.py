"""Checkpoints come from a folder or from a hub, as huggingface_hub's environment says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason='needs the extra "train"')

from models.convert.errors import CheckpointError
from models.convert.sources import fetch
from tests.exports.models.convert.hub import Hub, hub
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)

NAME = "someone/small"
ROOT = Path(__file__).parents[4]
FETCH = """
import sys
from models.convert.errors import CheckpointError
from models.convert.sources import fetch
try:
    print(fetch(sys.argv[1]))
except CheckpointError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json"):
        (folder / name).write_text(f'{{"file": "{name}"}}')
    (folder / "README.md").write_text("prose")
    return folder


def fetched(endpoint: str, home: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Fetch in a process of its own: the library reads its environment when it is imported."""
    return subprocess.run(
        [sys.executable, "-c", FETCH, NAME],
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def names(server: Hub) -> set[str]:
    return {path.rpartition("/")[2] for method, path in server.asked if method == "GET"}


def test_a_folder_is_itself(tmp_path: Path):
    assert fetch(str(tmp_path)) == tmp_path


def test_what_is_neither_folder_nor_name_is_refused():
    with pytest.raises(CheckpointError, check=sentence):
        fetch("../a/b/c")


def test_a_model_is_downloaded_once_and_found_again_without_a_hub(checkpoint: Path, tmp_path: Path):
    with hub(NAME, checkpoint) as server:
        first = fetched(server.url, tmp_path / "home")
        url = server.url
    assert first.returncode == 0, first.stderr
    folder = Path(first.stdout.strip())
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json"
    ]  # fmt: skip
    for path in folder.iterdir():
        assert path.read_bytes() == (checkpoint / path.name).read_bytes()
    again = fetched(url, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert again.stdout == first.stdout


def test_pickled_weights_are_only_taken_where_there_are_no_safe_ones(
    checkpoint: Path, tmp_path: Path
):
    (checkpoint / "model.safetensors").unlink()
    with hub(NAME, checkpoint) as server:
        done = fetched(server.url, tmp_path / "home")
        assert "pytorch_model.bin" in names(server)
    assert (Path(done.stdout.strip()) / "pytorch_model.bin").is_file()


def test_a_private_model_takes_the_token(checkpoint: Path, tmp_path: Path):
    with hub(NAME, checkpoint, token="hf_right") as server:
        refused = fetched(server.url, tmp_path / "one", HF_TOKEN="hf_wrong")
        given = fetched(server.url, tmp_path / "two", HF_TOKEN="hf_right")
    assert refused.returncode == 1
    assert f"{NAME} cannot be downloaded" in refused.stderr
    assert given.returncode == 0, given.stderr


def test_offline_and_never_downloaded_is_said_in_a_sentence(tmp_path: Path):
    done = fetched("http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "was not downloaded before" in done.stderr
    assert "Traceback" not in done.stderr
