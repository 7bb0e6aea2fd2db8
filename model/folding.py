"""Trained weights in the names and shapes of the deploy form, and back: algebra in NumPy that changes no result.

A network that was trained in its deploy form becomes an ordinary checkpoint by `unfold`; folding that gives the same
weights again. Statistics and factors of norms stay those of the original, so that the network can be trained on.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .config import CONVNEXT_EPSILON, LAYER_NORM_EPSILON, RESNET_EPSILON, DeployForm, ModelConfig

Array: TypeAlias = npt.NDArray[Any]  # float32 outside of this file, float64 inside
Weights: TypeAlias = dict[str, Array]
_Layer: TypeAlias = tuple[Array, Array]  # kernel and bias

# The 49 taps of a 7 × 7 kernel as three dilated kernels (size, dilation) of 21, 20 and 8: the rows 0 and ±2, the inner
# five columns of the rows ±1 and ±3, and the outer columns of those. Kernels of XNNPACK have room for 25 taps or for 9,
# and a kernel with less takes the time of a full one: two of 25 and one of 9 cost a fifth less than three of 25.
PARTS = {"even": ((3, 7), (2, 1)), "odd": ((4, 5), (2, 1)), "edges": ((4, 2), (2, 6))}
BIASED_PART = "even"

UNFOLDED_FORM = DeployForm("split", "convolutions")
# Factors are divided by. One nearer to zero is set to this, so that no weight explodes.
_LEAST_NORM = 1e-2
_LEAST_LAYER_SCALE = 1e-8


def fold(config: ModelConfig, weights: Weights, form: DeployForm) -> Weights:
    """Weights of the deploy form from those of the training form.

    Args:
        config: of the checkpoint.
        weights: float32 by name, as a checkpoint holds them. Weights outside the form's stream are left out.
        form: stream, and how the target wants depthwise convolutions and layer norm.
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
        """Fold a norm into the convolution that follows it, as far as it can."""
        kernel, bias = w[f"{conv}/kernel"], w[f"{conv}/bias"]
        if folded:
            kernel, bias = _absorb(kernel, bias, *_batch_norm(w, norm, CONVNEXT_EPSILON))
        else:
            kernel, bias = _layer_norm(w, norm, kernel, bias, form, out)
        out[f"{conv}/kernel"], out[f"{conv}/bias"] = kernel, bias

    for block in config.audio.blocks():
        name = block.name
        if block.entry and block.level == 0:
            _stem(w, form, out, folded=folded)
        elif block.entry:
            after(f"{block.entry}/norm", f"{block.entry}/conv")
        kernel, bias = w[f"{name}/depthwise/depthwise_kernel"], w[f"{name}/depthwise/bias"]
        if folded:
            # Folded backwards: zeros at the border are no means.
            scale, offset = _batch_norm(w, f"{name}/norm", CONVNEXT_EPSILON)
            kernel, bias = kernel * scale[:, None], bias * scale + offset
            _copy(out, w, f"{name}/expand")
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
        out |= {name: w[name] for name in ("audio/stem/norm/gamma", "audio/stem/norm/beta")}
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
    for part, part_kernel in split_depthwise(kernel).items():
        out[f"{name}/{part}/depthwise_kernel"] = part_kernel
    out[f"{name}/{BIASED_PART}/bias"] = bias


def _fusion(config: ModelConfig, w: Weights, form: DeployForm) -> Weights:
    out: Weights = {}
    for name in ("audio", "visual", "query", "key", "value"):
        scale = config.fusion.key_dim**-0.5 if name == "query" else 1.0
        out[f"fusion/{name}/kernel"] = w[f"fusion/{name}/kernel"] * scale
        out[f"fusion/{name}/bias"] = w[f"fusion/{name}/bias"] * scale
    out["fusion/output/kernel"] = w["fusion/output/kernel"][None, None]
    out["fusion/output/bias"] = w["fusion/output/bias"]
    # The mean over tokens commutes with scale and offset of the norm, so the classifier can absorb them.
    classifier = w["fusion/classifier/kernel"], w["fusion/classifier/bias"]
    classifier = _layer_norm(w, "fusion/norm", *classifier, form, out)
    out["fusion/classifier/kernel"], out["fusion/classifier/bias"] = classifier
    return out


def _head(config: ModelConfig, w: Weights, form: DeployForm) -> Weights:
    """The classifier of a single stream."""
    out: Weights = {}
    kernel, bias = (w[f"{form.stream}/classifier/{kind}"] for kind in ("kernel", "bias"))
    if form.stream == "audio":
        if config.audio.norm == "batch":
            kernel, bias = _absorb(kernel, bias, *_batch_norm(w, "audio/norm", CONVNEXT_EPSILON))
        else:
            kernel, bias = _layer_norm(w, "audio/norm", kernel, bias, form, out)
    out[f"{form.stream}/classifier/kernel"], out[f"{form.stream}/classifier/bias"] = kernel, bias
    return out


def _layer_norm(w: Weights, norm: str, kernel: Array, bias: Array, form: DeployForm, out: Weights) -> _Layer:
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
    """Kernel and bias of a layer without padding that maps x as the old [..., in, out] maps scale·x + offset."""
    return kernel * scale[:, None], bias + (kernel * offset[:, None]).sum(axis=tuple(range(kernel.ndim - 1)))


def _batch_norm(w: Weights, name: str, epsilon: float) -> tuple[Array, Array]:
    """Scale and offset of a batch norm in inference."""
    scale = w[f"{name}/gamma"] / np.sqrt(w[f"{name}/moving_variance"] + epsilon)
    return scale, w[f"{name}/beta"] - w[f"{name}/moving_mean"] * scale


def unfold(config: ModelConfig, deploy: Weights, original: Weights) -> Weights:
    """Training-form weights that fold to `deploy`.

    Args:
        config: of the checkpoint.
        deploy: weights in the names and shapes of `build_deploy(config, UNFOLDED_FORM)`.
        original: weights of the training form, the source of the factors and statistics of norms and of the weights
            that the fused model does not use: the heads of the single streams.
    """
    out = {name: value.astype(np.float64) for name, value in original.items()}
    deploy = {name: value.astype(np.float64) for name, value in deploy.items()}
    for name in original:
        if name.startswith("visual/") and name.endswith("/bn/gamma"):
            conv = name.removesuffix("/bn/gamma")
            scale = _divisor_of_batch_norm(out, f"{conv}/bn", RESNET_EPSILON)
            out[f"{conv}/kernel"] = deploy[f"{conv}/kernel"] / scale
            out[f"{conv}/bn/beta"] = deploy[f"{conv}/bias"] + out[f"{conv}/bn/moving_mean"] * scale
    for block in config.audio.blocks():
        if block.entry and block.level == 0:
            _unfold_stem(config, out, deploy)
        elif block.entry:
            _unfold_before(config, out, deploy, f"{block.entry}/norm", f"{block.entry}/conv")
        _unfold_block(config, out, deploy, block.name)
    for name in ("audio", "visual", "query", "key", "value", "output"):
        _copy(out, deploy, f"fusion/{name}")
    for name in ("fusion/query/kernel", "fusion/query/bias"):
        out[name] = out[name] * config.fusion.key_dim**0.5
    out["fusion/output/kernel"] = deploy["fusion/output/kernel"][0, 0]
    _unabsorb(out, deploy, "fusion/classifier", *_divisor_of_layer_norm(out, "fusion/norm"))
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in out.items()}


def join_depthwise(parts: dict[str, Array]) -> Array:
    """The kernel [7, 7, C, 1] of the parts of `split_depthwise`."""
    kernel = np.zeros((7, 7, *parts["even"].shape[2:]), parts["even"].dtype)
    kernel[1::2] = parts["even"]
    kernel[::2, 1:6] = parts["odd"]
    kernel[::2, ::6] = parts["edges"]
    return kernel


def _unfold_stem(config: ModelConfig, out: Weights, deploy: Weights) -> None:
    _copy(out, deploy, "audio/stem/conv")
    if config.audio.norm == "batch":
        _unfold_behind(out, "audio/stem/norm", "audio/stem/conv/kernel", "audio/stem/conv/bias")
    else:
        # No convolution follows the stem's norm alone, so its scale and offset were kept.
        out["audio/stem/norm/gamma"] = deploy["audio/stem/norm/affine/depthwise_kernel"].reshape(-1)
        out["audio/stem/norm/beta"] = deploy["audio/stem/norm/affine/bias"]


def _unfold_block(config: ModelConfig, out: Weights, deploy: Weights, name: str) -> None:
    depthwise, kernel = f"{name}/depthwise", f"{name}/depthwise/depthwise_kernel"
    out[kernel] = join_depthwise({part: deploy[f"{depthwise}/{part}/depthwise_kernel"] for part in PARTS})
    bias = out[f"{depthwise}/bias"]
    out[f"{depthwise}/bias"] = deploy[f"{depthwise}/{BIASED_PART}/bias"]
    _copy(out, deploy, f"{name}/expand")
    if config.audio.norm == "batch":
        _unfold_behind(out, f"{name}/norm", kernel, f"{depthwise}/bias", kept_bias=bias)
    else:
        _unfold_before(config, out, deploy, f"{name}/norm", f"{name}/expand")
    scale = out[f"{name}/scale/gamma"] = _away_from_zero(out[f"{name}/scale/gamma"], _LEAST_LAYER_SCALE)
    out[f"{name}/project/kernel"] = deploy[f"{name}/project/kernel"] / scale
    out[f"{name}/project/bias"] = deploy[f"{name}/project/bias"] / scale


def _unfold_behind(out: Weights, norm: str, kernel: str, bias: str, *, kept_bias: Array | None = None) -> None:
    """Take a batch norm out of the convolution that it follows; `out` has the folded one."""
    scale = _divisor_of_batch_norm(out, norm, CONVNEXT_EPSILON)
    out[kernel] = out[kernel] / (scale[:, None] if kernel.endswith("depthwise_kernel") else scale)
    kept = np.zeros_like(scale) if kept_bias is None else kept_bias
    out[f"{norm}/beta"] = out[bias] - (kept - out[f"{norm}/moving_mean"]) * scale
    out[bias] = kept


def _unfold_before(config: ModelConfig, out: Weights, deploy: Weights, norm: str, conv: str) -> None:
    """Take a norm out of the convolution that follows it."""
    if config.audio.norm == "batch":
        scale = _divisor_of_batch_norm(out, norm, CONVNEXT_EPSILON)
        _unabsorb(out, deploy, conv, scale, out[f"{norm}/beta"] - out[f"{norm}/moving_mean"] * scale)
    else:
        _unabsorb(out, deploy, conv, *_divisor_of_layer_norm(out, norm))


def _unabsorb(out: Weights, deploy: Weights, layer: str, scale: Array, offset: Array) -> None:
    """Take `scale` and `offset` of its input out of a layer [..., in, out]."""
    kernel = deploy[f"{layer}/kernel"] / scale[:, None]
    out[f"{layer}/kernel"] = kernel
    out[f"{layer}/bias"] = deploy[f"{layer}/bias"] - (kernel * offset[:, None]).sum(axis=tuple(range(kernel.ndim - 1)))


def _divisor_of_batch_norm(out: Weights, norm: str, epsilon: float) -> Array:
    """Factor of a batch norm in inference, whose gamma is kept away from zero."""
    deviation = np.sqrt(out[f"{norm}/moving_variance"] + epsilon)
    scale = _away_from_zero(out[f"{norm}/gamma"] / deviation, _LEAST_NORM)
    out[f"{norm}/gamma"] = scale * deviation
    return scale


def _divisor_of_layer_norm(out: Weights, norm: str) -> tuple[Array, Array]:
    """Scale and offset of a layer norm, the scale kept away from zero."""
    out[f"{norm}/gamma"] = _away_from_zero(out[f"{norm}/gamma"], _LEAST_NORM)
    return out[f"{norm}/gamma"], out[f"{norm}/beta"]


def _away_from_zero(factor: Array, least: float) -> Array:
    apart: Array = np.where(np.abs(factor) < least, np.where(factor < 0, -least, least), factor)
    return apart


def _copy(out: Weights, source: Weights, name: str) -> None:
    out[f"{name}/kernel"], out[f"{name}/bias"] = source[f"{name}/kernel"], source[f"{name}/bias"]
