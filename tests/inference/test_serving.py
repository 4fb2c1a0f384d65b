"""The README's lines for serving a student without torch, run as they stand on an image and on a video."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parents[2]
SIZE = (48, 64)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model that takes a pixel's red for its probability, an image and a video."""
    cv2 = pytest.importorskip("cv2", reason="the lines read videos with opencv-python-headless")
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1, "h", "w"])
    constants = [
        helper.make_tensor("full", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("red", TensorProto.INT64, [1], [0]),
    ]
    nodes = [
        helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["t", "red"], ["r"], axis=1),
        helper.make_node("Cast", ["r"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["f", "full"], ["probability"]),
    ]
    graph = helper.make_graph(nodes, "red", [image], [probability], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"threshold": "0.4", "region_threshold": "0.8", "classes": "1"})
    onnx.save(model, tmp_path / "model.onnx")
    frames = np.zeros((3, *SIZE, 3), np.uint8)
    frames[:, 8:40, 16:48, 2] = 255  # red, in OpenCV's order
    frames[:, 44:, :12, 2] = 150  # over the threshold, but in a region that nowhere reaches the region threshold
    cv2.imwrite(str(tmp_path / "frame.png"), frames[0])
    writer = cv2.VideoWriter(str(tmp_path / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, SIZE[::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines() -> str:
    """The README's block for serving."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (block,) = (block for block in blocks if "InferenceSession" in block)
    return block


def test_twelve_lines_without_torch():
    assert "torch" not in lines()
    assert len([line for line in lines().splitlines() if line]) <= 12


def test_the_lines_for_serving_tell_of_a_video_that_is_none_or_was_cut_off(folder):
    (folder / "video.mp4").write_bytes(b"no video")
    with pytest.raises(AssertionError, match="no video that OpenCV reads"):
        exec(lines(), {})
    whole = (folder / "video.avi").read_bytes()
    (folder / "video.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(AssertionError, match="or it ends early"):
        exec(lines(), {})


@pytest.mark.parametrize(("source", "count"), [("frame.png", 1), ("video.avi", 3)])
def test_the_lines_for_serving_find_the_red_square_alone(folder, source, count):
    import cv2

    exec(lines().replace("video.mp4", source), {})
    masks = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(folder.glob("mask*.png"))]
    assert len(masks) == count
    for mask in masks:
        assert mask.shape == SIZE and set(np.unique(mask)) == {0, 255}
        assert abs(int((mask > 0).sum()) - 32 * 32) < 150
