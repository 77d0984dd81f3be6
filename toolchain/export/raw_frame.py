"""The files of `--raw-frame`: resizing and cropping inside the graph, so that a frame of any size goes in.

The graph does what `Preprocess` does with OpenCV, in operators that every runtime has. Area scaling is separable:
each output row is a weighted mean of source rows, each output column of source columns, so two matrices of weights,
made for the size of the frame, do it exactly. ONNX's own Resize with antialiasing weights by triangles instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import helper, parser

from toolchain.artifact import Artifact, make_artifact, read_artifact
from toolchain.classifier import Classifier
from toolchain.export.measure import ExportContext, Logits, logits_on
from toolchain.export.results import Written
from toolchain.export.variants import CANNOT_BE_MADE, not_made
from toolchain.images.preprocess import Preprocess, read
from toolchain.runtimes import open_runtime
from toolchain.runtimes.devices import plain as without_way
from toolchain.system import files

FRAME = ("batch", "height", "width", 3)
CUBIC = -0.75
"""The parameter of OpenCV's cubic interpolation."""

MAX_CHANGED = {"float32": 0.01, "int8": 0.02}
"""Share of photographs, and one in any case, whose answer may differ from that of the file that takes resized
pictures. Pixels differ by 1 of 255 where OpenCV rounds in its own way; int8 makes more of that."""


def write_frame_files(context: ExportContext, paths: Sequence[Path]) -> tuple[Written, ...]:
    """Write `model.frame.onnx` beside `model.onnx`, and so on for all `paths`, if it answers as that one does."""
    written = []
    with context.reporter.task("files for raw frames", len(paths)) as task:
        for path in paths:
            written.append(_write(context, read_artifact(path)))
            task.advance()
    return tuple(written)


def _write(context: ExportContext, plain: Artifact) -> Written:
    model = with_raw_frame(onnx.load_model_from_string(plain.model), plain.card.preprocess)
    path = plain.path.with_suffix(".frame.onnx")
    # In bfloat16, a pixel's last bit may change what float32 answers alike.
    devices = tuple(device for device in plain.card.runtimes if device == without_way(device))
    card = replace(plain.card, input="frame", runtimes=devices)
    measured, broken = [], None
    photographs = context.photographs.paths(context.sample.split)
    try:
        draft = make_artifact(model, card, path)
        answers = {device: _logits(draft, device, photographs) for device in devices}
    except CANNOT_BE_MADE as error:  # such as a network that asks for the shape of what depends on a frame's size
        return not_made(path, card.precision, error)
    for device, logits in answers.items():
        measured.append(context.compare(logits, device, card.precision))
        plain_answers = logits_on(plain, device, context.sample.pixels).argmax(1)
        changed = int((logits.argmax(1) != plain_answers).sum())
        if changed > max(1, MAX_CHANGED[card.precision] * len(photographs)):
            broken = (
                f"{path.name} was not written: on {device} it answers {changed} of {len(photographs)} photographs "
                f"otherwise than {plain.path.name}"
            )
    if broken is None:
        others = tuple(entry for entry in card.accuracy if entry.precision != card.precision)
        card = replace(card, accuracy=(*others, *(one.accuracy for one in measured)))
        files.write_bytes(path, make_artifact(model, card, path).model)
    return Written(str(path), "onnx", card.precision, round(draft.size_mb, 3), tuple(measured), broken)


def _logits(artifact: Artifact, device: str, photographs: Sequence[Path]) -> Logits:
    """Logits of photographs at their own sizes, float32 [n, classes]."""
    classifier = Classifier(artifact.card, open_runtime(artifact, device, unproven=True))
    return np.concatenate([classifier.infer([read(path)]).logits for path in photographs])


def with_raw_frame(model: onnx.ModelProto, spec: Preprocess) -> onnx.ModelProto:
    """A copy of `model` whose input `image` is uint8 [batch, height, width, 3] of any height and width.

    Frames are RGB and turned the right way up; all frames of a batch have one size. `model` takes pictures that
    were preprocessed by `spec`.
    """
    resize = parser.parse_model(_text(spec, model))
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    for node in graph.node:
        node.input[:] = ["frame_resized" if name == "image" else name for name in node.input]
    rest = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend([*resize.graph.node, *rest])
    graph.input.append(helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, FRAME))
    return whole


def _text(spec: Preprocess, model: onnx.ModelProto) -> str:
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    sizes = _squashed(spec) if spec.resize == "squash" else _shortest_edge(spec)
    return f"""<ir_version: {model.ir_version}, opset_import: ["": {opset}]>
resize (uint8[batch, height, width, 3] image) => (uint8[batch, {spec.height}, {spec.width}, 3] frame_resized) {{
  frame_shape = Shape(image)
  frame_zero = Constant<value_int = 0>()
  frame_one = Constant<value_int = 1>()
  frame_two = Constant<value_int = 2>()
  frame_axes = Constant<value_ints = [1, 2]>()
  frame_h = Gather(frame_shape, frame_one)
  frame_w = Gather(frame_shape, frame_two)
  {sizes}
  {_axis("y", "frame_h", spec.height)}
  {_axis("x", "frame_w", spec.width)}
  {_choice(spec)}
  frame_starts = Concat<axis = 0>(frame_y_first_list, frame_x_first_list)
  frame_ends = Concat<axis = 0>(frame_y_last_list, frame_x_last_list)
  frame_part = Slice(image, frame_starts, frame_ends, frame_axes)
  frame_bytes = Transpose<perm = [0, 3, 1, 2]>(frame_part)
  frame_float = Cast<to = 1>(frame_bytes)
  frame_rows = MatMul(frame_y_weights, frame_float)
  frame_x_turned = Transpose<perm = [1, 0]>(frame_x_weights)
  frame_both = MatMul(frame_rows, frame_x_turned)
  frame_round = Round(frame_both)
  frame_low = Constant<value_float = 0.0>()
  frame_high = Constant<value_float = 255.0>()
  frame_clipped = Clip(frame_round, frame_low, frame_high)
  frame_integers = Cast<to = 2>(frame_clipped)
  frame_resized = Transpose<perm = [0, 2, 3, 1]>(frame_integers)
}}"""


def _squashed(spec: Preprocess) -> str:
    return f"""
  frame_y_new = Constant<value_int = {spec.height}>()
  frame_x_new = Constant<value_int = {spec.width}>()
  frame_y_start = Identity(frame_zero)
  frame_x_start = Identity(frame_zero)"""


def _shortest_edge(spec: Preprocess) -> str:
    """Sides after scaling, rounded half to even as Python does, and where the centre begins."""
    lines = f"""
  frame_short = Min(frame_h, frame_w)
  frame_short2 = Mul(frame_short, frame_two)
  frame_edge = Constant<value_int = {spec.shortest_edge}>()"""
    for axis, source, size in (("y", "frame_h", spec.height), ("x", "frame_w", spec.width)):
        p = f"frame_{axis}"
        lines += f"""
  {p}_times = Mul({source}, frame_edge)
  {p}_times2 = Mul({p}_times, frame_two)
  {p}_sum = Add({p}_times2, frame_short)
  {p}_up = Div({p}_sum, frame_short2)
  {p}_rest = Mod({p}_sum, frame_short2)
  {p}_odd = Mod({p}_up, frame_two)
  {p}_is_half = Equal({p}_rest, frame_zero)
  {p}_is_odd = Equal({p}_odd, frame_one)
  {p}_down = And({p}_is_half, {p}_is_odd)
  {p}_less = Cast<to = 7>({p}_down)
  {p}_even = Sub({p}_up, {p}_less)
  {p}_new = Max({p}_even, frame_edge)
  {p}_size = Constant<value_int = {size}>()
  {p}_spare = Sub({p}_new, {p}_size)
  {p}_start = Div({p}_spare, frame_two)"""
    return lines


def _axis(axis: str, source: str, size: int) -> str:
    """Which source pixels are needed, and both kinds of weights for them, float32 [size, pixels].

    `far`: the share of each output pixel that lies in a source pixel. `near`: two neighbours, for enlarging.
    """
    p = f"frame_{axis}"
    return f"""
  {p}_source = Cast<to = 1>({source})
  {p}_new_float = Cast<to = 1>({p}_new)
  {p}_scale = Div({p}_source, {p}_new_float)
  {p}_start_float = Cast<to = 1>({p}_start)
  {p}_count = Constant<value_int = {size}>()
  {p}_range = Range(frame_zero, {p}_count, frame_one)
  {p}_range_float = Cast<to = 1>({p}_range)
  {p}_out = Add({p}_range_float, {p}_start_float)
  {p}_size_float = Constant<value_float = {float(size)}>()
  {p}_end = Add({p}_start_float, {p}_size_float)
  {p}_from = Mul({p}_start_float, {p}_scale)
  {p}_to = Mul({p}_end, {p}_scale)
  {p}_from_floor = Floor({p}_from)
  {p}_from_integer = Cast<to = 7>({p}_from_floor)
  {p}_from_before = Sub({p}_from_integer, frame_two)
  {p}_first = Max({p}_from_before, frame_zero)
  {p}_to_ceil = Ceil({p}_to)
  {p}_to_integer = Cast<to = 7>({p}_to_ceil)
  {p}_to_after = Add({p}_to_integer, frame_two)
  {p}_last = Min({p}_to_after, {source})
  {p}_list = Constant<value_ints = [0]>()
  {p}_first_list = Unsqueeze({p}_first, {p}_list)
  {p}_last_list = Unsqueeze({p}_last, {p}_list)
  {p}_pixels_integer = Range({p}_first, {p}_last, frame_one)
  {p}_pixels_float = Cast<to = 1>({p}_pixels_integer)
  {p}_pixels = Unsqueeze({p}_pixels_float, {p}_list)
  {p}_second = Constant<value_ints = [1]>()
  {p}_rows = Unsqueeze({p}_out, {p}_second)
  {p}_unit = Constant<value_float = 1.0>()
  {p}_pixel_end = Add({p}_pixels, {p}_unit)
  {p}_low = Mul({p}_rows, {p}_scale)
  {p}_high = Add({p}_low, {p}_scale)
  {p}_right = Min({p}_pixel_end, {p}_high)
  {p}_left = Max({p}_pixels, {p}_low)
  {p}_width = Sub({p}_right, {p}_left)
  {p}_overlap = Relu({p}_width)
  {p}_total = ReduceSum<keepdims = 1>({p}_overlap, {p}_second)
  {p}_far = Div({p}_overlap, {p}_total)
  {p}_zero = Constant<value_float = 0.0>()
  {p}_most = Sub({p}_source, {p}_unit)"""


def _choice(spec: Preprocess) -> str:
    """The weights to use, as OpenCV has them for this interpolation."""
    near: Literal["area", "linear"] = "linear" if spec.interpolation == "linear" else "area"
    lines = "".join(_near(axis, near) for axis in ("y", "x"))
    if spec.interpolation == "linear":
        return (
            lines
            + """
  frame_y_weights = Identity(frame_y_near)
  frame_x_weights = Identity(frame_x_near)"""
        )
    used = "averaged" if spec.interpolation == "cubic" else "weights"
    lines += f"""
  frame_y_shrinks = GreaterOrEqual(frame_y_scale, frame_y_unit)
  frame_x_shrinks = GreaterOrEqual(frame_x_scale, frame_x_unit)
  frame_shrinks = And(frame_y_shrinks, frame_x_shrinks)
  frame_y_{used} = Where(frame_shrinks, frame_y_far, frame_y_near)
  frame_x_{used} = Where(frame_shrinks, frame_x_far, frame_x_near)"""
    if spec.interpolation == "area":
        return lines
    cubic = "".join(_cubic(axis) for axis in ("y", "x"))
    return f"""{lines}{cubic}
  frame_area = Mul(frame_h, frame_w)
  frame_area_new = Mul(frame_y_new, frame_x_new)
  frame_smaller = Less(frame_area_new, frame_area)
  frame_y_weights = Where(frame_smaller, frame_y_averaged, frame_y_cubic)
  frame_x_weights = Where(frame_smaller, frame_x_averaged, frame_x_cubic)"""


def _near(axis: str, interpolation: Literal["area", "linear"]) -> str:
    """Weights for two neighbours."""
    p = f"frame_{axis}"
    if interpolation == "area":
        # In integers: a float that is a little less than 50 would take another pixel.
        source = f"frame_{'h' if axis == 'y' else 'w'}"
        lines = f"""
  {p}_index_list = Add({p}_range, {p}_start)
  {p}_index = Unsqueeze({p}_index_list, {p}_second)
  {p}_index_scaled = Mul({p}_index, {source})
  {p}_at_integer = Div({p}_index_scaled, {p}_new)
  {p}_at = Cast<to = 1>({p}_at_integer)
  {p}_at_next = Add({p}_at, {p}_unit)
  {p}_index_next = Add({p}_index, frame_one)
  {p}_at_integer_next = Add({p}_at_integer, frame_one)
  {p}_next_scaled = Mul({p}_index_next, {source})
  {p}_reached = Mul({p}_at_integer_next, {p}_new)
  {p}_beyond_integer = Sub({p}_next_scaled, {p}_reached)
  {p}_beyond_float = Cast<to = 1>({p}_beyond_integer)
  {p}_beyond = Div({p}_beyond_float, {p}_source)
  {p}_beyond_floor = Floor({p}_beyond)
  {p}_fraction = Sub({p}_beyond, {p}_beyond_floor)
  {p}_is_beyond = Greater({p}_beyond, {p}_zero)
  {p}_share = Where({p}_is_beyond, {p}_fraction, {p}_zero)"""
    else:
        lines = f"""
  {p}_half = Constant<value_float = 0.5>()
  {p}_middle = Add({p}_rows, {p}_half)
  {p}_scaled = Mul({p}_middle, {p}_scale)
  {p}_place_any = Sub({p}_scaled, {p}_half)
  {p}_place_low = Max({p}_place_any, {p}_zero)
  {p}_place = Min({p}_place_low, {p}_most)
  {p}_at = Floor({p}_place)
  {p}_at_next = Add({p}_at, {p}_unit)
  {p}_share = Sub({p}_place, {p}_at)"""
    return f"""{lines}
  {p}_neighbour = Min({p}_at_next, {p}_most)
  {p}_is_at = Equal({p}_pixels, {p}_at)
  {p}_is_neighbour = Equal({p}_pixels, {p}_neighbour)
  {p}_at_float = Cast<to = 1>({p}_is_at)
  {p}_neighbour_float = Cast<to = 1>({p}_is_neighbour)
  {p}_rest_share = Sub({p}_unit, {p}_share)
  {p}_at_weight = Mul({p}_at_float, {p}_rest_share)
  {p}_neighbour_weight = Mul({p}_neighbour_float, {p}_share)
  {p}_near = Add({p}_at_weight, {p}_neighbour_weight)"""


def _cubic(axis: str) -> str:
    """Weights for four neighbours (Keys 1981, with OpenCV's -0.75); what lies outside is the pixel at the edge."""
    p = f"frame_{axis}_cubic"
    q = f"frame_{axis}"
    lines = f"""
  {p}_half = Constant<value_float = 0.5>()
  {p}_a = Constant<value_float = {CUBIC}>()
  {p}_a2 = Constant<value_float = {CUBIC + 2}>()
  {p}_a3 = Constant<value_float = {CUBIC + 3}>()
  {p}_middle = Add({q}_rows, {p}_half)
  {p}_scaled = Mul({p}_middle, {q}_scale)
  {p}_place = Sub({p}_scaled, {p}_half)
  {p}_at1 = Floor({p}_place)
  {p}_x = Sub({p}_place, {p}_at1)
  {p}_rest = Sub({q}_unit, {p}_x)
  {p}_xx = Mul({p}_x, {p}_x)
  {p}_xxx = Mul({p}_xx, {p}_x)
  {p}_a_x = Mul({p}_a, {p}_x)
  {p}_a_x_rest = Mul({p}_a_x, {p}_rest)
  {p}_share0 = Mul({p}_a_x_rest, {p}_rest)
  {p}_share3 = Mul({p}_a_x_rest, {p}_x)
  {p}_a2_xxx = Mul({p}_a2, {p}_xxx)
  {p}_a3_xx = Mul({p}_a3, {p}_xx)
  {p}_falls = Sub({p}_a2_xxx, {p}_a3_xx)
  {p}_share1 = Add({p}_falls, {q}_unit)
  {p}_share01 = Add({p}_share0, {p}_share1)
  {p}_share013 = Add({p}_share01, {p}_share3)
  {p}_share2 = Sub({q}_unit, {p}_share013)
  {p}_at0 = Sub({p}_at1, {q}_unit)
  {p}_at2 = Add({p}_at1, {q}_unit)
  {p}_at3 = Add({p}_at2, {q}_unit)"""
    for tap in range(4):
        lines += f"""
  {p}_from{tap} = Max({p}_at{tap}, {q}_zero)
  {p}_within{tap} = Min({p}_from{tap}, {q}_most)
  {p}_is{tap} = Equal({q}_pixels, {p}_within{tap})
  {p}_is_float{tap} = Cast<to = 1>({p}_is{tap})
  {p}_weight{tap} = Mul({p}_is_float{tap}, {p}_share{tap})"""
    return f"""{lines}
  {p} = Sum({p}_weight0, {p}_weight1, {p}_weight2, {p}_weight3)"""
