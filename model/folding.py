"""Trained weights in the names and shapes of the deploy form: algebra in NumPy that changes no result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .config import ModelConfig

if TYPE_CHECKING:
    from .deploy import DeployForm

Array = npt.NDArray[Any]  # float32 outside of this file, float64 inside
Weights = dict[str, Array]

# The 49 taps of a 7 × 7 kernel as three dilated kernels (size, dilation) of 21, 20 and 8: the rows 0 and ±2, the inner
# five columns of the rows ±1 and ±3, and the outer columns of those. Kernels of XNNPACK have room for 25 taps or for 9,
# and a kernel with less takes the time of a full one: two of 25 and one of 9 cost a fifth less than three of 25.
PARTS = {"even": ((3, 7), (2, 1)), "odd": ((4, 5), (2, 1)), "edges": ((4, 2), (2, 6))}
BIASED_PART = "even"

LAYER_NORM_EPSILON = 1e-6
RESNET_EPSILON = 1.001e-5
CONVNEXT_EPSILON = 1e-3


def fold(config: ModelConfig, weights: Weights, form: DeployForm) -> Weights:
    """Weights of the deploy form from those of the training form.

    Args:
        config: that of the checkpoint.
        weights: float32 by name, as a checkpoint holds them. Those that the form's stream does not have are left out.
        form: what is built, and how the target wants depthwise convolutions and layer norm.
    """
    wide = {name: value.astype(np.float64) for name, value in weights.items()}
    out: Weights = {}
    if form.stream != "audio":
        out |= _resnet(wide)
    if form.stream != "visual":
        out |= _convnext(config, wide, form)
    out |= _fusion(config, wide, form) if form.stream == "fused" else _head(config, wide, form)
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in out.items()}


def split_depthwise(kernel: Array) -> dict[str, Array]:
    """Kernels of `PARTS` whose dilated sum is the depthwise kernel [7, 7, C, 1]."""
    return {"even": kernel[1::2], "odd": kernel[::2, 1:6], "edges": kernel[::2, ::6]}


def _resnet(w: Weights) -> Weights:
    out: Weights = {}
    for name in w:
        if name.startswith("visual/") and name.endswith("/bn/gamma"):
            conv = name.removesuffix("/bn/gamma")
            scale, offset = _batch_norm(w, f"{conv}/bn", RESNET_EPSILON)
            out[f"{conv}/kernel"] = w[f"{conv}/kernel"] * scale
            out[f"{conv}/bias"] = offset
    return out


def _convnext(config: ModelConfig, w: Weights, form: DeployForm) -> Weights:
    folded = config.audio.norm == "batch"
    out: Weights = {}

    def after(norm: str, conv: str) -> None:
        """A convolution that follows a norm and takes what it can of it."""
        kernel, bias = w[f"{conv}/kernel"], w[f"{conv}/bias"]
        if folded:
            kernel, bias = _absorb(kernel, bias, *_batch_norm(w, norm, CONVNEXT_EPSILON))
        else:
            kernel, bias = _layer_norm(w, norm, kernel, bias, form, out)
        out[f"{conv}/kernel"], out[f"{conv}/bias"] = kernel, bias

    for level, stage in enumerate(config.audio.stages):
        if level == 0:
            _stem(w, form, out, folded=folded)
        else:
            after(f"audio/stage{level}/downsample/norm", f"audio/stage{level}/downsample/conv")
        for index in range(len(stage.expanded)):
            name = f"audio/stage{level}/block{index}"
            kernel, bias = w[f"{name}/depthwise/depthwise_kernel"], w[f"{name}/depthwise/bias"]
            if folded:
                # Folded backwards: zeros at the border are no means.
                scale, offset = _batch_norm(w, f"{name}/norm", CONVNEXT_EPSILON)
                kernel, bias = kernel * scale[:, None], bias * scale + offset
                out[f"{name}/expand/kernel"] = w[f"{name}/expand/kernel"]
                out[f"{name}/expand/bias"] = w[f"{name}/expand/bias"]
            else:
                after(f"{name}/norm", f"{name}/expand")
            _depthwise(f"{name}/depthwise", kernel, bias, form, out)
            scale = w[f"{name}/scale/gamma"]
            out[f"{name}/project/kernel"] = w[f"{name}/project/kernel"] * scale
            out[f"{name}/project/bias"] = w[f"{name}/project/bias"] * scale
    return out


def _stem(w: Weights, form: DeployForm, out: Weights, *, folded: bool) -> None:
    kernel, bias = w["audio/stem/conv/kernel"], w["audio/stem/conv/bias"]
    if folded:
        scale, offset = _batch_norm(w, "audio/stem/norm", CONVNEXT_EPSILON)
        kernel, bias = kernel * scale, bias * scale + offset
    elif form.layer_norm == "layer":
        out["audio/stem/norm/gamma"], out["audio/stem/norm/beta"] = (
            w["audio/stem/norm/gamma"],
            w["audio/stem/norm/beta"],
        )
    else:
        _means("audio/stem/norm", len(bias), out)
        # No convolution follows the stem's norm alone: the residual stream begins here.
        out["audio/stem/norm/affine/depthwise_kernel"] = w["audio/stem/norm/gamma"][None, None, :, None]
        out["audio/stem/norm/affine/bias"] = w["audio/stem/norm/beta"]
    out["audio/stem/conv/kernel"], out["audio/stem/conv/bias"] = kernel, bias


def _depthwise(name: str, kernel: Array, bias: Array, form: DeployForm, out: Weights) -> None:
    if form.depthwise == "whole":
        out[f"{name}/depthwise_kernel"], out[f"{name}/bias"] = kernel, bias
        return
    for part, own in split_depthwise(kernel).items():
        out[f"{name}/{part}/depthwise_kernel"] = own
    out[f"{name}/{BIASED_PART}/bias"] = bias


def _fusion(config: ModelConfig, w: Weights, form: DeployForm) -> Weights:
    out: Weights = {}
    for name in ("audio", "visual", "query", "key", "value"):
        scale = config.fusion.key_dim**-0.5 if name == "query" else 1.0
        out[f"fusion/{name}/kernel"] = w[f"fusion/{name}/kernel"] * scale
        out[f"fusion/{name}/bias"] = w[f"fusion/{name}/bias"] * scale
    out["fusion/output/kernel"] = w["fusion/output/kernel"][None, None]
    out["fusion/output/bias"] = w["fusion/output/bias"]
    # The mean over tokens commutes with scale and offset of the norm, so the classifier can take them.
    kernel, bias = w["fusion/classifier/kernel"], w["fusion/classifier/bias"]
    out["fusion/classifier/kernel"], out["fusion/classifier/bias"] = _layer_norm(
        w, "fusion/norm", kernel, bias, form, out
    )
    return out


def _head(config: ModelConfig, w: Weights, form: DeployForm) -> Weights:
    """The classifier of a single stream."""
    out: Weights = {}
    kernel, bias = (w[f"{form.stream}/classifier/{own}"] for own in ("kernel", "bias"))
    if form.stream == "audio":
        if config.audio.norm == "batch":
            kernel, bias = _absorb(kernel, bias, *_batch_norm(w, "audio/norm", CONVNEXT_EPSILON))
        else:
            kernel, bias = _layer_norm(w, "audio/norm", kernel, bias, form, out)
    out[f"{form.stream}/classifier/kernel"], out[f"{form.stream}/classifier/bias"] = kernel, bias
    return out


def _layer_norm(
    w: Weights, norm: str, kernel: Array, bias: Array, form: DeployForm, out: Weights
) -> tuple[Array, Array]:
    """Kernel and bias of the layer behind a layer norm; the norm's own weights go to `out`."""
    gamma, beta = w[f"{norm}/gamma"], w[f"{norm}/beta"]
    if form.layer_norm == "layer":
        out[f"{norm}/gamma"], out[f"{norm}/beta"] = gamma, beta
        return kernel, bias
    _means(norm, len(gamma), out)
    return _absorb(kernel, bias, gamma, beta)


def _means(norm: str, width: int, out: Weights) -> None:
    out[f"{norm}/mean/kernel"] = np.full((1, 1, width, 1), 1 / width)
    out[f"{norm}/variance/kernel"] = np.full((1, 1, width, 1), 1 / width)
    out[f"{norm}/variance/bias"] = np.full(1, LAYER_NORM_EPSILON)


def _absorb(kernel: Array, bias: Array, scale: Array, offset: Array) -> tuple[Array, Array]:
    """A layer without padding that does to x what the given one [..., in, out] does to scale·x + offset."""
    return kernel * scale[:, None], bias + (kernel * offset[:, None]).sum(axis=tuple(range(kernel.ndim - 1)))


def _batch_norm(w: Weights, name: str, epsilon: float) -> tuple[Array, Array]:
    """Scale and offset of a batch norm in inference."""
    scale = w[f"{name}/gamma"] / np.sqrt(w[f"{name}/moving_variance"] + epsilon)
    return scale, w[f"{name}/beta"] - w[f"{name}/moving_mean"] * scale
