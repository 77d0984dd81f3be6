"""`export --server`: folders as OpenVINO Model Server and Triton load them."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import openvino
import pytest

from tests.artifacts import tiny_artifact
from toolchain.artifact import read_artifact, write_artifact
from toolchain.cli import run
from toolchain.errors import BadInputError
from toolchain.export.raw_frame import with_raw_frame
from toolchain.export.results import Exported, Written
from toolchain.export.server_folder import check_folder, write_server_folder
from toolchain.images.preprocess import Preprocess

SMALL = Preprocess(height=32, width=48, shortest_edge=48)
CONFIG = """name: "my-flowers"
backend: "onnxruntime"
max_batch_size: 32
input [ { name: "image" data_type: TYPE_UINT8 dims: [32, 48, 3] } ]
output [ { name: "logits" data_type: TYPE_FP32 dims: [3] }, \
{ name: "probabilities" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" } ]
dynamic_batching { }
# What was measured was measured on CPUs.
instance_group [ { count: 1 kind: KIND_CPU } ]
"""


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    """A run called "my flowers", with a float file, int8 for ONNX Runtime alone, and one for frames."""
    folder = tmp_path / "my flowers"
    folder.mkdir()
    labels = ("red", "light green", "blue")
    plain = tiny_artifact(folder / "model.onnx", labels, 32, 48)
    int8 = tiny_artifact(folder / "model.int8.ort.onnx", labels, 32, 48, precision="int8", runtimes=("ort:cpu",))
    frames = with_raw_frame(onnx.load(plain.path), plain.card.preprocess)
    write_artifact(frames, replace(plain.card, input="frame"), folder / "model.frame.onnx")
    return Exported(
        str(folder),
        "val",
        3,
        str(plain.path),
        plain.size_mb,
        (),
        int8_files=dict.fromkeys(("ort:cpu", "openvino:CPU"), str(int8.path)),
        broken={"openvino:CPU": "slower than float"},
        further=(
            Written(str(folder / "model.frame.onnx"), "onnx", "float32", 1.0, ()),
            Written(str(folder / "model.fp16.onnx"), "onnx", "float16", 1.0, (), broken="loses too much"),
            Written(str(folder / "model.xml"), "openvino", "float32", 1.0, ()),
        ),
    )


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_triton_is_told_types_and_shapes(exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    names = ("my-flowers", "my-flowers-int8", "my-flowers-frame")
    assert write_server_folder("triton", folder, exported).models == names
    assert _files(folder) == {
        f"{name}/{file}" for name in names for file in ("config.pbtxt", "labels.txt", "1/model.onnx")
    }
    assert (folder / "my-flowers" / "config.pbtxt").read_text() == CONFIG
    assert (folder / "my-flowers" / "labels.txt").read_text() == "red\nlight green\nblue\n"
    of_frames = (folder / "my-flowers-frame" / "config.pbtxt").read_text()
    assert "dims: [-1, -1, 3]" in of_frames
    assert "dynamic_batching" not in of_frames
    for name in names:
        onnx.checker.check_model(str(folder / name / "1" / "model.onnx"))


def test_frames_of_the_chosen_int8_file_are_served_alone(exported: Exported, tmp_path: Path) -> None:
    folder = Path(exported.run)
    frames = with_raw_frame(onnx.load(folder / "model.onnx"), read_artifact(folder / "model.onnx").card.preprocess)
    further = list(exported.further)
    for name in ("model.int8.frame.onnx", "model.int8.ort.frame.onnx"):
        card = replace(read_artifact(folder / "model.int8.ort.onnx").card, input="frame")
        write_artifact(frames, card, folder / name)
        further.append(Written(str(folder / name), "onnx", "int8", 1.0, ()))
    served = write_server_folder("triton", tmp_path / "served", replace(exported, further=tuple(further)))
    assert served.models.count("my-flowers-int8-frame") == 1
    written = tmp_path / "served" / "my-flowers-int8-frame"
    assert {path.name for path in written.iterdir()} == {"config.pbtxt", "labels.txt", "1"}


def test_triton_reads_its_own_form(exported: Exported, tmp_path: Path) -> None:
    form = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    write_server_folder("triton", tmp_path / "served", exported)
    for path in (tmp_path / "served").rglob("config.pbtxt"):
        config = text_format.Parse(path.read_text(), form.ModelConfig())
        graph = onnx.load(path.parent / "1" / "model.onnx").graph
        assert (config.name, config.backend) == (path.parent.name, "onnxruntime")
        kinds = {form.TYPE_UINT8: onnx.TensorProto.UINT8, form.TYPE_FP32: onnx.TensorProto.FLOAT}
        for said, value in zip((*config.input, *config.output), (*graph.input, *graph.output), strict=True):
            tensor = value.type.tensor_type
            assert said.name == value.name
            assert kinds[said.data_type] == tensor.elem_type
            assert list(said.dims) == [side.dim_value or -1 for side in tensor.shape.dim[1:]]
        assert config.instance_group[0].kind == form.ModelInstanceGroup.KIND_CPU


def test_openvino_model_server_is_told_of_what_is_proven_there(exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    assert write_server_folder("ovms", folder, exported).models == ("my-flowers", "my-flowers-frame")
    assert _files(folder) == {"config.json", "my-flowers/1/model.onnx", "my-flowers-frame/1/model.onnx"}
    for listed in json.loads((folder / "config.json").read_text())["model_config_list"]:
        config = listed["config"]
        assert config["base_path"] == f"/models/{config['name']}"
        core = openvino.Core()
        model = core.read_model(folder / config["name"] / "1" / "model.onnx")
        core.compile_model(model, config["target_device"], config["plugin_config"])


def test_a_new_export_is_a_new_version_beside_what_else_is_served(exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    other = {"config": {"name": "faces", "base_path": "/models/faces"}}
    (folder / "config.json").write_text(json.dumps({"model_config_list": [other], "mediapipe_config_list": []}))
    write_server_folder("ovms", folder, exported)
    write_server_folder("ovms", folder, exported)
    assert {path.name for path in (folder / "my-flowers").iterdir()} == {"1", "2"}
    known = json.loads((folder / "config.json").read_text())
    assert known["mediapipe_config_list"] == []
    assert known["model_config_list"][0] == other
    assert [one["config"]["name"] for one in known["model_config_list"]] == [
        "faces",
        "my-flowers",
        "my-flowers-frame",
    ]


def test_what_was_changed_by_hand_stays(exported: Exported, tmp_path: Path) -> None:
    """As the guide says to, for a GPU."""
    for server, name, ours, theirs in (
        ("triton", "my-flowers/config.pbtxt", "KIND_CPU", "KIND_GPU"),
        ("ovms", "config.json", '"target_device": "CPU"', '"target_device": "GPU"'),
    ):
        folder = tmp_path / server
        write_server_folder(server, folder, exported)  # type: ignore[arg-type]
        text = (folder / name).read_text()
        assert ours in text
        (folder / name).write_text(text.replace(ours, theirs))
        write_server_folder(server, folder, exported)  # type: ignore[arg-type]
        assert (folder / name).read_text() == text.replace(ours, theirs)
        assert (folder / "my-flowers" / "2" / "model.onnx").exists()


@pytest.mark.parametrize(
    ("labels", "height", "what"), [(("red", "green", "blue"), 32, "classes"), (("a", "b", "c"), 64, "shapes")]
)
def test_a_version_that_tritons_description_does_not_fit_is_refused(
    labels: tuple[str, ...], height: int, what: str, exported: Exported, tmp_path: Path
) -> None:
    """It would take the versions before with it."""
    folder, run_dir = tmp_path / "served", Path(exported.run)
    one = replace(exported, int8_files={}, broken={}, further=())
    tiny_artifact(run_dir / "model.onnx", ("a", "b", "c"), 32, 48)
    write_server_folder("triton", folder, one)
    tiny_artifact(run_dir / "model.onnx", labels, height, 48)
    before = {path: (folder / path).read_bytes() for path in _files(folder)}
    with pytest.raises(BadInputError, match=f"a model with other {what}"):
        write_server_folder("triton", folder, one)
    assert {path: (folder / path).read_bytes() for path in _files(folder)} == before
    with pytest.raises(BadInputError, match=f"a model with other {what}"):
        check_folder("triton", folder, run_dir, labels, replace(SMALL, height=height, shortest_edge=64))


def test_labels_and_descriptions_that_were_changed_by_hand_fit_the_next_version(
    exported: Exported, tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    write_server_folder("triton", folder, exported)
    labels, description = folder / "my-flowers/labels.txt", folder / "my-flowers/config.pbtxt"
    labels.write_text("rot\r\nhellgrün\r\nblau", encoding="utf-8")
    changed = description.read_text().replace("dims: [32, 48, 3]", "format: FORMAT_NHWC\n  dims: [32, 48, 3]")
    description.write_text(changed)
    check_folder("triton", folder, Path(exported.run), ("red", "light green", "blue"), SMALL)
    write_server_folder("triton", folder, exported)
    assert description.read_text() == changed
    assert labels.read_text(encoding="utf-8").startswith("rot")
    labels.unlink()
    write_server_folder("triton", folder, exported)
    assert labels.read_text() == "red\nlight green\nblue\n"


def test_descriptions_whose_versions_are_gone_must_fit_as_they_are(exported: Exported, tmp_path: Path) -> None:
    write_server_folder("triton", tmp_path / "served", exported)
    shutil.rmtree(tmp_path / "served/my-flowers/1")
    write_server_folder("triton", tmp_path / "served", exported)
    shutil.rmtree(tmp_path / "served/my-flowers/1")
    (tmp_path / "served/my-flowers/labels.txt").write_text("a\nb\nc\n")
    with pytest.raises(BadInputError, match="a model with other classes"):
        write_server_folder("triton", tmp_path / "served", exported)


def test_settings_that_an_earlier_edgetl_did_not_know_are_added(exported: Exported, tmp_path: Path) -> None:
    write_server_folder("ovms", tmp_path, exported)
    listed = json.loads((tmp_path / "config.json").read_text())
    for one in listed["model_config_list"]:
        one["config"]["plugin_config"] = {"INFERENCE_PRECISION_HINT": "bf16"}
    (tmp_path / "config.json").write_text(json.dumps(listed))
    write_server_folder("ovms", tmp_path, exported)
    for one in json.loads((tmp_path / "config.json").read_text())["model_config_list"]:
        assert one["config"]["plugin_config"] == {
            "INFERENCE_PRECISION_HINT": "bf16",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        }


def test_an_export_that_cannot_be_served_is_told(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(server: str, folder: Path, done: Exported) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    shutil.copytree(run_folder, tmp_path / "run")
    monkeypatch.setattr("toolchain.export.server_folder.write_server_folder", full)
    words = ["export", str(tmp_path / "run"), "--server", "ovms", str(tmp_path / "served"), "--json", "--quiet"]
    assert run(words) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["float_file"]
    assert "No space left" in said.err


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"model_config_list": [{"name": "x"}]}', '{"model_config_list": 3}']
)
def test_what_is_no_list_of_models_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BadInputError, match="no list of models"):
        check_folder("ovms", tmp_path, tmp_path, (), SMALL)
    with pytest.raises(BadInputError, match="is a file"):
        check_folder("triton", tmp_path / "config.json", tmp_path, (), SMALL)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="cannot be written"):
        check_folder("triton", tmp_path / "file" / "served", tmp_path, (), SMALL)


@pytest.mark.slow
def test_export_writes_the_folder(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    served = tmp_path / "served"
    assert run(["export", str(tmp_path / "run"), "--server", "triton", str(served), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["server"] == {
        "server": "triton",
        "folder": str(served),
        "models": ["run"],
    }
    assert (served / "run" / "1" / "model.onnx").read_bytes() == (tmp_path / "run" / "model.onnx").read_bytes()
    assert run(["export", str(tmp_path / "run"), "--server", "torchserve", str(served)]) == 2
