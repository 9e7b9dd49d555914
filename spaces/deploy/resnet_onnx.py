"""A deployed ResNet as an ONNX graph that skips for real.

Each gated block is an `If` whose weights live inside its branch, so that the runtime can pre-pack them (weights in the
outer graph cannot be, and cost more than skipping saves). A block runs when any image of the batch opens it and its
result is multiplied by the decisions: equal logits at any batch size, real skipping at batch 1. MACs are those of each
image by itself, as torch's `run` counts them.

The graph that is made for any family (spaces/deploy/ship.py) gives the same, in 1.1 to 1.4 times the time with layer
gates at batch 1, and takes seconds to make (benchmarks/onnx_forms.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spaces.deploy.onnx_graph import Graph
from spaces.deploy.resnet import DeployedResNet
from spaces.deploy.resnet_block import DeployedBlock
from spaces.deploy.thresholds import THRESHOLDS

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8  # what onnxruntime 1.18 reads
FLOAT, BOOL, DOUBLE = 1, 9, 11  # onnx.TensorProto's
Layers = list[tuple[str, float]]  # decisions (batch, 1) and the MACs of the open block


def resnet_onnx(net: DeployedResNet, *, flat: bool = False) -> onnx.ModelProto:
    """The network as ONNX: `pixels` (batch, C, H, W) float32 in [0, 1] → `logits` (batch, classes), `macs` (batch,).

    Thresholds, where any gate decides, are an input (T,) float64 that may be left out. `macs` are the MACs that each
    image took, float64. `flat`: without `If`, everything is computed and chosen afterwards, the form to quantize.
    """
    import onnx
    from onnx import TensorProto, helper

    task, g = net.task, Graph("")
    pixels = helper.make_tensor_value_info(
        "pixels", TensorProto.FLOAT, ["batch", task.channels, task.height, task.width]
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", task.classes])
    macs = helper.make_tensor_value_info("macs", TensorProto.DOUBLE, ["batch"])
    _taus(g, net)
    centred = g.add("Sub", ["pixels", g.constant(net.mean[None], "mean")])
    u = stem = g.add(
        "Relu",
        [g.conv(g.add("Div", [centred, g.constant(net.std[None], "std")]), net.stem, "stem")],
    )
    spent: str | float = float(net.ends_macs)
    layers: Layers = []
    for index, block in enumerate(net.blocks):
        assert isinstance(block, DeployedBlock)
        source = stem if net.gate_source == "stem" else u
        u, cost = _block(g, block, u, source, f"block{index}", None if flat else layers)
        spent = g.total(spent, cost)
    pooled = g.add("ReduceMean", [u], axes=[2, 3], keepdims=0)
    fc = g.linear(pooled, net.fc, "fc")
    g.add("Identity", [fc], "logits")
    images = g.add("Shape", ["pixels"], start=0, end=1)
    zero = helper.make_tensor("zero", TensorProto.DOUBLE, [1], [0.0])
    zeros = g.add("ConstantOfShape", [images], value=zero)
    spent = g.total(g.total(zeros, spent), _of_layers(g, layers))
    assert isinstance(spent, str)
    g.add("Identity", [spent], "macs")
    model = helper.make_model(
        g.graph("dynafront", [pixels, *_given(g, net)], [logits, macs]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="dynafront",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _of_layers(g: Graph, layers: Layers) -> str | float:
    """MACs (batch,) of the open blocks whose MACs are known: a runtime takes a microsecond for each small operation."""
    if not layers:
        return 0.0
    z = g.add("Concat", [z for z, _ in layers], axis=1)
    costs = np.array([cost for _, cost in layers], np.float64)
    return g.add("MatMul", [g.add("Cast", [z], to=DOUBLE), g.constant(costs, "costs")])


def _block(
    g: Graph, block: DeployedBlock, u: str, source: str, name: str, layers: Layers | None
) -> tuple[str, str | float]:
    """The block's output, and its MACs an image but for those that are added to `layers`; None: without branches."""
    skip_macs = float(block.skip_macs)
    if not block.summed:
        return _alone(g, block, u, source, name)
    skip = _skip(g, block, u, name)
    if block.closed:
        return u if block.identity else g.add("Relu", [skip]), skip_macs
    if not block.decides("layer"):
        r, cost = _residual(g, block, u, source, name)
        return g.add("Relu", [g.add("Add", [skip, r])]), g.total(skip_macs, cost)
    z = _decision(g, block, "layer", source, name)  # (batch, 1)
    assert block.gates is not None
    standing = skip_macs + block.gates.macs(("layer",))
    given = (u, source, skip)
    if layers is None:
        u, cost = _chosen(g, block, given, z, name)
    else:
        u, cost = _branched(g, block, given, z, name, layers)
    return u, g.total(standing, cost)


def _alone(
    g: Graph, block: DeployedBlock, u: str, source: str, name: str
) -> tuple[str, str | float]:
    """A block without a shortcut: its output is what its filters make of its input, or zeros where all are closed."""
    if block.closed:
        return _zeros(g, block, u, name), 0.0
    r, cost = _residual(g, block, u, source, name)
    if not block.kept_inner:  # a constant, the same for all images of a batch
        r = g.add("Add", [r, _zeros(g, block, u, name)])
    return g.add("Relu", [r]), cost


def _zeros(g: Graph, block: DeployedBlock, u: str, name: str) -> str:
    """Maps (batch, filters, H, W) of zeros."""
    from onnx import helper

    maps = g.constant(np.array([block.filters, *block.size]), f"{name}.maps")
    shape = g.add("Concat", [g.add("Shape", [u], start=0, end=1), maps], axis=0)
    zero = helper.make_tensor("zero", FLOAT, [1], [0.0])
    return g.add("ConstantOfShape", [shape], value=zero)


def _branched(
    g: Graph,
    block: DeployedBlock,
    given: tuple[str, str, str],
    z: str,
    name: str,
    layers: Layers,
) -> tuple[str, str | float]:
    """A block that runs where any image opens it, from its input, its gate's source and its shortcut; and its MACs."""
    u, source, skip = given
    any_open = g.add("Cast", [g.add("ReduceMax", [z], keepdims=0)], to=BOOL)
    run, rest = Graph(f"{name}.open."), Graph(f"{name}.closed.")
    shaped = run.add("Reshape", [z, run.constant(np.array([-1, 1, 1, 1]), "shape")])
    r, cost = _residual(run, block, u, source, name)
    opened = run.add("Relu", [run.add("Add", [skip, run.add("Mul", [r, shaped])])])
    closed = rest.add("Identity", [u]) if block.identity else rest.add("Relu", [skip])
    outputs = [_value(opened)], [_value(closed)]
    if isinstance(cost, str):
        outputs[0].append(_value(cost, DOUBLE))
        outputs[1].append(_value(rest.tensor(0.0), DOUBLE))
    u, *costs = g.branch(
        any_open,
        run.graph(f"{name}_open", [], outputs[0]),
        rest.graph(f"{name}_closed", [], outputs[1]),
    )
    if isinstance(cost, float):
        layers.append((z, cost))
        return u, 0.0
    flat = g.add("Reshape", [z, g.constant(np.array([-1]), f"{name}.flat")])
    return u, g.product(g.add("Cast", [flat], to=DOUBLE), costs[0])


def _chosen(
    g: Graph, block: DeployedBlock, given: tuple[str, str, str], z: str, name: str
) -> tuple[str, str | float]:
    """As `_branched`, with open and closed computed for every image."""
    u, source, skip = given
    r, cost = _residual(g, block, u, source, name)
    opened = g.add("Relu", [g.add("Add", [skip, r])])
    closed = u if block.identity else g.add("Relu", [skip])
    taken = g.add("Cast", [z], to=BOOL)
    shaped = g.add("Reshape", [taken, g.constant(np.array([-1, 1, 1, 1]), f"{name}.shape")])
    flat = g.add("Reshape", [taken, g.constant(np.array([-1]), f"{name}.flat")])
    spent = g.add("Where", [flat, g.tensor(cost), g.tensor(0.0)])
    return g.add("Where", [shaped, opened, closed]), spent


def _residual(
    g: Graph, block: DeployedBlock, u: str, source: str, name: str
) -> tuple[str, str | float]:
    """The residual of an open block, and its MACs an image, those of the gates of its filters included."""
    h = g.add("Relu", [g.conv(u, block.conv1, f"{name}.conv1")]) if block.kept_inner else ""
    inner = outer = None
    if block.decides("inner"):
        inner = _filter_mask(g, block, "inner", block.inner_unit, source, name)
        h = g.add("Mul", [h, inner])
    if block.kept_inner:
        r = g.conv(h, block.conv2, f"{name}.conv2")
    else:  # nothing but the second batch norm's shift is left of the residual
        assert block.conv2.bias is not None
        r = g.constant(
            block.conv2.bias[None, :, None, None].expand(1, -1, *block.size), f"{name}.shift"
        )
    if block.decides("outer"):
        outer = _filter_mask(g, block, "outer", block.outer_unit, source, name)
        r = g.add("Mul", [r, outer])
    macs = _residual_macs(g, block, inner, outer)
    if len(block.kept_outer) == block.filters:
        return r, macs
    place = np.zeros((block.filters, len(block.kept_outer), 1, 1), np.float32)
    # a 1x1 convolution that puts filters in their places
    place[block.kept_outer, range(len(block.kept_outer))] = 1
    placed = g.add("Conv", [r, g.constant(place, f"{name}.place")], kernel_shape=[1, 1])
    return placed, macs


def _residual_macs(
    g: Graph, block: DeployedBlock, inner: str | None, outer: str | None
) -> str | float:
    """What DeployedBlock counts for an open block: the masks say which filters are open, None all."""
    pixels = 9.0 * block.size[0] * block.size[1]
    n_inner = _open_filters(g, inner, block.conv1.out_channels)
    n_outer = _open_filters(g, outer, block.conv2.out_channels)
    read: str | float = float(block.conv2.out_channels > 0)
    if isinstance(n_outer, str):
        read = g.add("Sign", [n_outer])
    first = g.product(g.product(n_inner, pixels * block.conv1.in_channels), read)
    second = g.product(g.product(n_inner, n_outer), pixels)
    gates = block.gates.macs(("inner", "outer"), paid=("layer",)) if block.gates else 0
    return g.total(g.total(first, second), float(gates))


def _open_filters(g: Graph, mask: str | None, filters: int) -> str | float:
    if mask is None:
        return float(filters)
    counted = g.add("ReduceSum", [mask, g.axes(1, 2, 3)], keepdims=0)
    return g.add("Cast", [counted], to=DOUBLE)


def _filter_mask(
    g: Graph, block: DeployedBlock, kind: str, unit_of: list[int], source: str, name: str
) -> str:
    """(batch, filters, 1, 1) of 0 and 1 from one decision a unit."""
    decided = _decision(g, block, kind, source, name)
    units = max(unit_of) + 1
    spread = np.zeros((units, len(unit_of)), np.float32)
    always = np.zeros(len(unit_of), np.float32)
    for position, unit in enumerate(unit_of):
        if unit < 0:
            always[position] = 1
        else:
            spread[unit, position] = 1
    mask = g.add(
        "Gemm",
        [
            decided,
            g.constant(spread, f"{name}.{kind}.spread"),
            g.constant(always, f"{name}.{kind}.always"),
        ],
    )
    return g.add("Reshape", [mask, g.constant(np.array([0, 0, 1, 1]), f"{name}.{kind}.shape")])


def _decision(g: Graph, block: DeployedBlock, kind: str, source: str, name: str) -> str:
    """(batch, units) of 0.0 and 1.0."""
    gates = block.gates
    assert gates is not None
    pooled = g.add("ReduceMean", [source], axes=[2, 3], keepdims=0)
    features = g.add(
        "Relu", [g.linear(pooled, gates.trunks[gates.trunk_of[kind]], f"{name}.{kind}.trunk")]
    )
    probability = g.add("Sigmoid", [g.linear(features, gates.heads[kind], f"{name}.{kind}.head")])
    above = g.add("Greater", [probability, _tau(f"{name}.{kind}")])
    return g.add("Cast", [above], to=FLOAT)


def _given(g: Graph, net: DeployedResNet) -> list[onnx.ValueInfoProto]:
    """The input of thresholds; its default is an initializer of the same name."""
    from onnx import helper

    values = list(net.thresholds.values())
    if not values:
        return []
    g.constant(np.array(values, np.float64), THRESHOLDS)
    return [helper.make_tensor_value_info(THRESHOLDS, DOUBLE, [len(values)])]


def _taus(g: Graph, net: DeployedResNet) -> None:
    """Each gate's threshold from the input that holds all of them."""
    if not net.thresholds:
        return
    single = g.add("Cast", [THRESHOLDS], to=FLOAT)
    for position, gate in enumerate(net.thresholds):
        g.add("Gather", [single, g.constant(np.array([position]), f"{gate}.place")], _tau(gate))


def _tau(gate: str) -> str:
    return f"{gate}.tau"


def _skip(g: Graph, block: DeployedBlock, u: str, name: str) -> str:
    if block.shortcut is not None:
        return g.conv(u, block.shortcut, f"{name}.shortcut")
    if block.identity:
        return u
    starts, ends = (
        g.constant(np.array([0, 0]), f"{name}.starts"),
        g.constant(np.array([2**31, 2**31]), f"{name}.ends"),
    )
    axes, steps = (
        g.constant(np.array([2, 3]), f"{name}.axes"),
        g.constant(np.array([block.stride] * 2), f"{name}.steps"),
    )
    thinned = g.add("Slice", [u, starts, ends, axes, steps])
    pads = g.constant(np.array([0, 0, 0, 0, 0, block.extra, 0, 0]), f"{name}.pads")
    return g.add("Pad", [thinned, pads])


def _value(name: str, kind: int = FLOAT) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, None)
