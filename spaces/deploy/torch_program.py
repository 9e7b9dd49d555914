"""A network that is shipped as a program of torch.export: it runs with torch alone, and skips."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.fx import GraphModule

from spaces.deploy.ship import DeployedNet, traced
from spaces.deploy.torch_branches import sink

if TYPE_CHECKING:
    from torch.export import ExportedProgram

OF_THIS_MACHINE = ("stack_trace", "from_node", "custom")  # what nodes say of where they were made


def torch_program(net: DeployedNet, pixels: Tensor) -> ExportedProgram:
    """The network as a program (pixels, thresholds) → (logits, macs); without thresholds where it has none.

    `pixels` (B, channels, H, W) in [0, 1] are two images or more of its size; the program takes any number of images.
    What no image of a batch needs is skipped, by `torch.cond`.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = traced(net, pixels)
        sink(program.graph_module)
        for part in program.graph_module.modules():
            for node in part.graph.nodes if isinstance(part, GraphModule) else ():
                for name in OF_THIS_MACHINE:
                    node.meta.pop(name, None)
        return _of_graph(program)


def _of_graph(program: ExportedProgram) -> ExportedProgram:
    """The program of the graph as it is now, whose results may be those of other nodes than before."""
    from torch.export import ExportedProgram

    graph, signature = program.graph, program.graph_signature
    (results,) = graph.output_node().args
    for spec, node in zip(signature.output_specs, results, strict=True):
        spec.arg.name = node.name
    return ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=[program.verifier],
    )
