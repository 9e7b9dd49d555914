"""Multiply-accumulates (MACs) of layers, as exact integers.

One MAC is one multiply-accumulate of a convolution, a linear layer or an attention product. Bias additions,
normalisation, activations, pooling and residual sums are not counted, as the field does.
"""

from __future__ import annotations

from torch import nn


def conv_output(size: int, conv: nn.Conv2d, axis: int = 0) -> int:
    """Pixels along one axis after the convolution."""
    kernel, stride = conv.kernel_size[axis], conv.stride[axis]
    padding, dilation = conv.padding[axis], conv.dilation[axis]
    assert isinstance(padding, int)
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def conv_macs(conv: nn.Conv2d, height: int, width: int) -> int:
    """MACs of a convolution of one image whose OUTPUT has height x width pixels."""
    kernel = conv.kernel_size[0] * conv.kernel_size[1]
    return height * width * kernel * (conv.in_channels // conv.groups) * conv.out_channels


def linear_macs(linear: nn.Linear, tokens: int = 1) -> int:
    """MACs of a linear layer applied to `tokens` vectors."""
    return tokens * linear.in_features * linear.out_features
