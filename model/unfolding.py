"""The way back: weights of the deploy form as weights of the training form, with norms that do nothing.

A network that was trained in its deploy form becomes an ordinary checkpoint this way, and folding that gives the same
deploy weights again.
"""

from __future__ import annotations

import numpy as np

from .config import ModelConfig
from .deploy import DeployForm
from .folding import BIASED_PART, CONVNEXT_EPSILON, PARTS, RESNET_EPSILON, Array, Weights


def unfold(config: ModelConfig, deploy: Weights, form: DeployForm, original: Weights) -> Weights:
    """Training-form weights that fold to `deploy`.

    Args:
        config: that of the checkpoint.
        deploy: weights in the names and shapes of `build_deploy(config, form)`.
        form: their form.
        original: weights of the training form; what the fused model does not use, the heads of the single streams, is
            taken from there.
    """
    out = dict(original)
    for name in original:
        if name.startswith("visual/") and name.endswith("/bn/gamma"):
            conv = name.removesuffix("/bn/gamma")
            out[f"{conv}/kernel"] = deploy[f"{conv}/kernel"]
            out |= _identity(original, f"{conv}/bn", RESNET_EPSILON)
            out[f"{conv}/bn/beta"] = deploy[f"{conv}/bias"]
    for level, stage in enumerate(config.audio.stages):
        first = f"audio/stage{level}/downsample" if level else "audio/stem"
        _copy(out, deploy, f"{first}/conv")
        out |= _identity(original, f"{first}/norm", CONVNEXT_EPSILON)
        for index in range(len(stage.expanded)):
            _block(out, deploy, original, form, f"audio/stage{level}/block{index}")
    if config.audio.norm == "layer":
        # No convolution follows the stem's norm alone, so its scale and offset were kept.
        affine = "audio/stem/norm" if form.layer_norm == "layer" else "audio/stem/norm/affine"
        gamma, beta = ("gamma", "beta") if form.layer_norm == "layer" else ("depthwise_kernel", "bias")
        out["audio/stem/norm/gamma"] = deploy[f"{affine}/{gamma}"].reshape(-1)
        out["audio/stem/norm/beta"] = deploy[f"{affine}/{beta}"]
    for name in ("audio", "visual", "query", "key", "value", "output", "classifier"):
        _copy(out, deploy, f"fusion/{name}")
    for name in ("fusion/query/kernel", "fusion/query/bias"):
        out[name] = out[name] * np.float32(config.fusion.key_dim**0.5)
    out["fusion/output/kernel"] = deploy["fusion/output/kernel"][0, 0]
    out |= _identity(original, "fusion/norm", 0.0)
    if form.layer_norm == "layer":
        _keep_norms(out, deploy)
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in out.items()}


def _block(out: Weights, deploy: Weights, original: Weights, form: DeployForm, name: str) -> None:
    depthwise = f"{name}/depthwise"
    if form.depthwise == "whole":
        out[f"{depthwise}/depthwise_kernel"] = deploy[f"{depthwise}/depthwise_kernel"]
        out[f"{depthwise}/bias"] = deploy[f"{depthwise}/bias"]
    else:
        out[f"{depthwise}/depthwise_kernel"] = join_depthwise(
            {part: deploy[f"{depthwise}/{part}/depthwise_kernel"] for part in PARTS}
        )
        out[f"{depthwise}/bias"] = deploy[f"{depthwise}/{BIASED_PART}/bias"]
    out |= _identity(original, f"{name}/norm", CONVNEXT_EPSILON)
    for part in ("expand", "project"):
        _copy(out, deploy, f"{name}/{part}")
    out[f"{name}/scale/gamma"] = np.ones_like(original[f"{name}/scale/gamma"])


def join_depthwise(parts: dict[str, Array]) -> Array:
    """The kernel [7, 7, C, 1] that `model.folding.split_depthwise` took apart."""
    kernel = np.zeros((7, 7, *parts["even"].shape[2:]), np.float32)
    kernel[1::2] = parts["even"]
    kernel[::2, 1:6] = parts["odd"]
    kernel[::2, ::6] = parts["edges"]
    return kernel


def _copy(out: Weights, deploy: Weights, name: str) -> None:
    out[f"{name}/kernel"], out[f"{name}/bias"] = deploy[f"{name}/kernel"], deploy[f"{name}/bias"]


def _identity(original: Weights, norm: str, epsilon: float) -> Weights:
    """A norm without effect: batch norm that returns its input, or layer norm without scale and offset."""
    width = len(original[f"{norm}/gamma"])
    out: Weights = {f"{norm}/gamma": np.ones(width, np.float32), f"{norm}/beta": np.zeros(width, np.float32)}
    if f"{norm}/moving_mean" in original:
        out[f"{norm}/moving_mean"] = np.zeros(width, np.float32)
        out[f"{norm}/moving_variance"] = np.full(width, 1 - epsilon, np.float32)
    return out


def _keep_norms(out: Weights, deploy: Weights) -> None:
    """Layer norms that are one layer have their own scale and offset."""
    for name, value in deploy.items():
        if name in out and name.endswith(("norm/gamma", "norm/beta")):
            out[name] = value
