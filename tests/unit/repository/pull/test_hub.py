"""Pulls from a fake Hub by the real huggingface_hub."""

import hashlib
import logging
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from service.errors import ModelLoadError
from service.repository.pull.record import read_record
from service.repository.pull.selection import NoGraphsError
from service.repository.pull.source import UnreachableError
from service.repository.repository import ModelRepository, PrecisionNotFoundError
from tests.fake_hub import FakeHub, FakeRepo, image_classifier
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_the_files_of_one_precision_arrive_and_are_recorded(hub, pull_model, tmp_path) -> None:
    pulled = pull_model()
    folder = tmp_path / "repository" / "lamps" / "1"
    needed = {"config.json", "preprocessor_config.json", "onnx/model.onnx", "onnx/model.onnx_data"}
    assert files_below(folder) == needed | {".source.json"}
    record = read_record(folder)
    assert record == pulled.record
    assert record.revision == hub.repos["org/lamps"].refs["main"]
    assert (record.source, record.precision) == ("hf://org/lamps", "fp32")
    assert {name: one.sha256 for name, one in record.files.items()} == {
        name: hashlib.sha256(image_classifier()[name]).hexdigest() for name in needed
    }
    opened = ModelRepository(tmp_path / "repository").open("lamps")
    assert (opened.manifest.family, opened.precision) == ("image_classifier", "fp32")


@pytest.mark.parametrize(
    ("options", "graph"),
    [
        ({"precision": "int8"}, "onnx/model_quantized.onnx"),
        ({"device_kind": "cuda"}, "onnx/model_fp16.onnx"),
    ],
)
def test_another_precision_is_another_version(
    hub, pull_model, tmp_path, options: dict[str, str], graph: str
) -> None:
    assert pull_model().version == 1
    assert pull_model(**options).version == 2
    assert pull_model(**options).is_new is False
    graphs = {name for name in files_below(tmp_path / "repository/lamps/2") if "onnx" in name}
    assert graphs == {graph}


def test_a_precision_that_is_not_there_is_refused_with_those_that_are(hub, pull_model) -> None:
    with pytest.raises(PrecisionNotFoundError, check=sentence):
        pull_model(precision="q4")


def test_tokens_are_sent_to_the_hub_and_not_to_the_cdn_and_logged_nowhere(
    hub, pull_model, monkeypatch, caplog, tmp_path
) -> None:
    repo = hub.repos["org/lamps"]
    repo.private, repo.readers = True, frozenset({"hf_reader"})
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    caplog.set_level(logging.DEBUG)
    hub.fail("/blobs/", ("cut", 10))
    pull_model()
    sent = {
        (path.startswith("/blobs/"), "authorization" in {name.lower() for name in headers})
        for _, path, headers in hub.requests
    }
    assert sent == {(True, False), (False, True)}
    assert "hf_reader" not in caplog.text
    assert not any(
        b"hf_reader" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(
    ("token", "closed", "reference"),
    [
        ("", "gated", "hf://org/lamps"),
        ("hf_stranger", "gated", "hf://org/lamps"),
        ("", "private", "hf://org/lamps"),
        ("hf_stranger", "private", "hf://org/lamps"),
        ("hf_unknown", "", "hf://org/lamps"),
        ("", "", "hf://org/nobody"),
        ("", "", "hf://org/lamps@v9"),
    ],
)
def test_refusals_say_what_to_do(
    token: str, closed: str, reference: str, request: pytest.FixtureRequest
) -> None:
    names = ("hub", "pull_model", "monkeypatch", "pauses")
    hub, pull_model, monkeypatch, pauses = map(request.getfixturevalue, names)
    repo = hub.repos["org/lamps"]
    repo.gated, repo.private = closed == "gated", closed == "private"
    repo.readers = frozenset({"hf_reader"})
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ModelLoadError, check=sentence) as refused:
        pull_model(reference)
    assert "http://" not in str(refused.value)
    assert not token or token not in str(refused.value)
    assert pauses == []


def test_a_gated_model_is_pulled_with_a_token_of_a_file(hub, pull_model, monkeypatch, tmp_path):
    repo = hub.repos["org/lamps"]
    repo.gated, repo.readers = True, frozenset({"hf_reader"})
    (tmp_path / "token").write_text("hf_reader\n")
    monkeypatch.setattr(
        import_module("huggingface_hub.constants"), "HF_TOKEN_PATH", str(tmp_path / "token")
    )
    assert pull_model().is_new


def test_a_body_that_is_cut_short_is_resumed_where_it_ended(
    hub, pull_model, pauses, monkeypatch
) -> None:
    constants = import_module("huggingface_hub.constants")  # which this module's Hub has
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10)  # what is written at a time
    hub.fail("/blobs/", ("cut", 100))
    pull_model()
    ranges = [h.get("Range") for method, p, h in hub.requests if "/blobs/" in p and method == "GET"]
    assert ranges[:2] == [None, "bytes=100-"]


def test_what_arrives_with_another_content_is_fetched_again(hub, pull_model, pauses) -> None:
    hub.fail("/blobs/", ("change",))
    assert pull_model().is_new
    hub.fail("/blobs/", *[("change",)] * 50)
    hub.repos["org/lamps"].commit(image_classifier(1.0))
    with pytest.raises(UnreachableError, check=sentence):
        pull_model()


def test_a_hub_that_limits_or_fails_for_a_while_is_waited_for(hub, pull_model, pauses) -> None:
    hub.fail("/api/models/", 429, 503)
    hub.fail("config.json", 429, 502)
    assert pull_model().is_new
    assert 2.0 in pauses  # of Retry-After


def test_a_hub_that_fails_on_is_given_up(hub, pull_model, pauses) -> None:
    hub.fail("/api/models/", *[500] * 100)
    with pytest.raises(UnreachableError, check=sentence):
        pull_model()
    assert sum(pauses) < 120


def test_what_is_there_is_found_without_the_hub(hub, pull_model, pauses, tmp_path) -> None:
    first = pull_model()
    hub.requests.clear()
    assert pull_model(f"hf://org/lamps@{first.record.revision}").version == 1
    assert hub.requests == []
    hub.fail("/api/", *[503] * 100)
    assert pull_model().version == 1
    with pytest.raises(UnreachableError):
        pull_model("hf://org/lamps@next")


def test_a_branch_that_moved_is_the_next_version_and_back_the_old_one(hub, pull_model) -> None:
    repo = hub.repos["org/lamps"]
    first = repo.refs["main"]
    assert pull_model().version == 1
    repo.commit(image_classifier(1.0))
    assert pull_model().version == 2
    repo.refs["main"] = first
    again = pull_model()
    assert (again.version, again.is_new, again.record.revision) == (1, False, first)


def test_a_version_that_lost_a_file_is_brought_again_in_its_place(
    hub, pull_model, tmp_path
) -> None:
    pull_model()
    graph = tmp_path / "repository/lamps/1/onnx/model.onnx"
    graph.unlink()
    again = pull_model()
    assert (again.version, again.is_new) == (1, True)
    assert graph.is_file()


def test_a_model_without_graphs_names_the_command_that_makes_them(hub, pull_model, tmp_path):
    files = image_classifier()
    kept = {name: files[name] for name in files if "onnx" not in name}
    hub.repos["org/lamps"].commit(kept, "v2")
    with pytest.raises(NoGraphsError, check=sentence):
        pull_model("hf://org/lamps@v2")
    assert not (tmp_path / "repository/lamps").exists()


def test_a_model_of_a_kind_that_is_not_served_is_refused_before_its_graphs(hub, pull_model) -> None:
    config = b'{"architectures": ["BertForQuestionAnswering"], "model_type": "bert"}'
    hub.repos["org/lamps"].commit({**image_classifier(), "config.json": config})
    with pytest.raises(ModelLoadError, check=sentence):
        pull_model()
    assert not any(".onnx" in path for path in hub.paths())


def test_names_that_lead_out_are_not_looked_at(hub: FakeHub, pull_model, tmp_path) -> None:
    hostile = {"../evil.json": b"{}", "onnx/../../evil.onnx": b"x", ".hidden/config.json": b"{}"}
    hub.repos["org/lamps"].commit({**image_classifier(), **hostile})
    pull_model()
    assert not list(tmp_path.rglob("evil*"))
    assert not any("evil" in path or "hidden" in path for path in hub.paths())


def test_a_graph_whose_data_is_not_there_is_refused(hub: FakeHub, pull_model) -> None:
    files = image_classifier()
    del files["onnx/model.onnx_data"]
    hub.repos["org/lamps"] = FakeRepo()
    hub.repos["org/lamps"].commit(files)
    with pytest.raises(ModelLoadError, check=sentence):
        pull_model()


def test_a_disk_without_room_is_refused_before_anything_large(
    hub, pull_model, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(ModelLoadError, check=sentence):
        pull_model()
    assert not any(".onnx" in path for path in hub.paths())
