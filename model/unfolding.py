"""The way back: weights of the deploy form as weights of the training form.

A network that was trained in its deploy form becomes an ordinary checkpoint this way; folding that gives the same
weights again. Statistics and factors of norms stay those of the original, so that the network can be trained on.
"""

from __future__ import annotations

import numpy as np

from .config import ModelConfig
from .deploy import DeployForm
from .folding import BIASED_PART, CONVNEXT_EPSILON, PARTS, RESNET_EPSILON, Array, Weights

UNFOLDED_FORM = DeployForm("split", "convolutions")
# Factors are divided by. One nearer to zero is set to this, so that no weight explodes.
_LEAST_NORM = 1e-2
_LEAST_LAYER_SCALE = 1e-8


def unfold(config: ModelConfig, deploy: Weights, original: Weights) -> Weights:
    """Training-form weights that fold to `deploy`.

    Args:
        config: that of the checkpoint.
        deploy: weights in the names and shapes of `build_deploy(config, UNFOLDED_FORM)`.
        original: weights of the training form, from which the factors and statistics of norms are taken, and what the
            fused model does not use: the heads of the single streams.
    """
    out = {name: value.astype(np.float64) for name, value in original.items()}
    deploy = {name: value.astype(np.float64) for name, value in deploy.items()}
    for name in original:
        if name.startswith("visual/") and name.endswith("/bn/gamma"):
            conv = name.removesuffix("/bn/gamma")
            scale = _batch_norm(out, f"{conv}/bn", RESNET_EPSILON)
            out[f"{conv}/kernel"] = deploy[f"{conv}/kernel"] / scale
            out[f"{conv}/bn/beta"] = deploy[f"{conv}/bias"] + out[f"{conv}/bn/moving_mean"] * scale
    for level, stage in enumerate(config.audio.stages):
        if level:
            name = f"audio/stage{level}/downsample"
            _before(config, out, deploy, f"{name}/norm", f"{name}/conv")
        else:
            _stem(config, out, deploy)
        for index in range(len(stage.expanded)):
            _block(config, out, deploy, f"audio/stage{level}/block{index}")
    for name in ("audio", "visual", "query", "key", "value", "output"):
        _copy(out, deploy, f"fusion/{name}")
    for name in ("fusion/query/kernel", "fusion/query/bias"):
        out[name] = out[name] * config.fusion.key_dim**0.5
    out["fusion/output/kernel"] = deploy["fusion/output/kernel"][0, 0]
    _absorbed(out, deploy, "fusion/classifier", *_layer_norm(out, "fusion/norm"))
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in out.items()}


def join_depthwise(parts: dict[str, Array]) -> Array:
    """The kernel [7, 7, C, 1] that `model.folding.split_depthwise` took apart."""
    kernel = np.zeros((7, 7, *parts["even"].shape[2:]), parts["even"].dtype)
    kernel[1::2] = parts["even"]
    kernel[::2, 1:6] = parts["odd"]
    kernel[::2, ::6] = parts["edges"]
    return kernel


def _stem(config: ModelConfig, out: Weights, deploy: Weights) -> None:
    _copy(out, deploy, "audio/stem/conv")
    if config.audio.norm == "batch":
        _behind(out, "audio/stem/norm", "audio/stem/conv/kernel", "audio/stem/conv/bias")
    else:
        # No convolution follows the stem's norm alone, so its scale and offset were kept.
        out["audio/stem/norm/gamma"] = deploy["audio/stem/norm/affine/depthwise_kernel"].reshape(-1)
        out["audio/stem/norm/beta"] = deploy["audio/stem/norm/affine/bias"]


def _block(config: ModelConfig, out: Weights, deploy: Weights, name: str) -> None:
    depthwise, kernel = f"{name}/depthwise", f"{name}/depthwise/depthwise_kernel"
    out[kernel] = join_depthwise({part: deploy[f"{depthwise}/{part}/depthwise_kernel"] for part in PARTS})
    bias = out[f"{depthwise}/bias"]
    out[f"{depthwise}/bias"] = deploy[f"{depthwise}/{BIASED_PART}/bias"]
    _copy(out, deploy, f"{name}/expand")
    if config.audio.norm == "batch":
        _behind(out, f"{name}/norm", kernel, f"{depthwise}/bias", kept_bias=bias)
    else:
        _before(config, out, deploy, f"{name}/norm", f"{name}/expand")
    scale = out[f"{name}/scale/gamma"] = _apart(out[f"{name}/scale/gamma"], _LEAST_LAYER_SCALE)
    out[f"{name}/project/kernel"] = deploy[f"{name}/project/kernel"] / scale
    out[f"{name}/project/bias"] = deploy[f"{name}/project/bias"] / scale


def _behind(out: Weights, norm: str, kernel: str, bias: str, *, kept_bias: Array | None = None) -> None:
    """Takes a batch norm out of the convolution that it follows; `out` has the folded one."""
    scale = _batch_norm(out, norm, CONVNEXT_EPSILON)
    out[kernel] = out[kernel] / (scale[:, None] if kernel.endswith("depthwise_kernel") else scale)
    kept = np.zeros_like(scale) if kept_bias is None else kept_bias
    out[f"{norm}/beta"] = out[bias] - (kept - out[f"{norm}/moving_mean"]) * scale
    out[bias] = kept


def _before(config: ModelConfig, out: Weights, deploy: Weights, norm: str, conv: str) -> None:
    """Takes a norm out of the convolution that follows it."""
    if config.audio.norm == "batch":
        scale = _batch_norm(out, norm, CONVNEXT_EPSILON)
        _absorbed(out, deploy, conv, scale, out[f"{norm}/beta"] - out[f"{norm}/moving_mean"] * scale)
    else:
        _absorbed(out, deploy, conv, *_layer_norm(out, norm))


def _absorbed(out: Weights, deploy: Weights, layer: str, scale: Array, offset: Array) -> None:
    """The layer [..., in, out] that took `scale` and `offset` of its input in."""
    kernel = deploy[f"{layer}/kernel"] / scale[:, None]
    out[f"{layer}/kernel"] = kernel
    out[f"{layer}/bias"] = deploy[f"{layer}/bias"] - (kernel * offset[:, None]).sum(axis=tuple(range(kernel.ndim - 1)))


def _batch_norm(out: Weights, norm: str, epsilon: float) -> Array:
    """Factor of a batch norm in inference, whose gamma is kept away from zero."""
    deviation = np.sqrt(out[f"{norm}/moving_variance"] + epsilon)
    scale = _apart(out[f"{norm}/gamma"] / deviation, _LEAST_NORM)
    out[f"{norm}/gamma"] = scale * deviation
    return scale


def _layer_norm(out: Weights, norm: str) -> tuple[Array, Array]:
    """Scale and offset of a layer norm, the scale kept away from zero."""
    out[f"{norm}/gamma"] = _apart(out[f"{norm}/gamma"], _LEAST_NORM)
    return out[f"{norm}/gamma"], out[f"{norm}/beta"]


def _apart(factor: Array, least: float) -> Array:
    found: Array = np.where(np.abs(factor) < least, np.where(factor < 0, -least, least), factor)
    return found


def _copy(out: Weights, deploy: Weights, name: str) -> None:
    out[f"{name}/kernel"], out[f"{name}/bias"] = deploy[f"{name}/kernel"], deploy[f"{name}/bias"]
