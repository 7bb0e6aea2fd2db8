"""From a checkpoint to the input of a converter: the deploy form's weights, ranges and names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model.config import DeployForm, ModelConfig
from model.deploy import build_deploy, set_deploy_weights
from model.folding import Weights, fold
from recordings.calibration import CalibrationSet

from .corrections import correct_biases, equalise
from .ranges import Method, choose_ranges, collect, widen_summands
from .recipes import Recipe
from .rounding import Range, observed_deploy, quantized_deploy


@dataclass(frozen=True)
class CalibrationOptions:
    """Choice of ranges, and changes of the weights before rounding.

    Attributes:
        method: `minmax`, `percentile` or `mse`.
        equalise: cross-layer equalisation.
        correct_biases: take out the mean error of rounded weights.
    """

    method: Method = "mse"
    equalise: bool = False
    correct_biases: bool = True

    @classmethod
    def of(cls, options: argparse.Namespace) -> CalibrationOptions:
        """From the options of `console.options.add_calibration`."""
        return cls(options.calibrate_by, options.equalise, not options.keep_biases)


@dataclass(frozen=True)
class Prepared:
    """A checkpoint in the deploy form of a target.

    Attributes:
        config, form: of the deploy form.
        weights: of the deploy form, as trained.
        equalised: the same, equalised if the options ask for it; no logit differs.
        static_weights: the same with corrected biases, for rounded kernels.
        producers: names of Keras layers → the activation that each produces.
        ranges: of every activation; empty without calibration.
    """

    config: ModelConfig
    form: DeployForm
    weights: Weights
    equalised: Weights
    static_weights: Weights
    producers: dict[str, str]
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def float_model(self, recipe: Recipe) -> Any:
        """Keras model of float arithmetic with the recipe's weights."""
        model = build_deploy(self.config, self.form)
        set_deploy_weights(model, self.static_weights if recipe.static else self.weights)
        return model

    def model(self, recipe: Recipe) -> Any:
        """Keras model with rounding at the activations that a static recipe stores in eight bits."""
        if not recipe.static:
            return self.float_model(recipe)
        ranges = {name: limits for name, limits in self.ranges.items() if not recipe.is_exception(name)}
        return quantized_deploy(self.config, self.form, self.static_weights, ranges)


def prepare(
    config: ModelConfig,
    weights: Weights,
    form: DeployForm,
    calibration: CalibrationSet | None,
    options: CalibrationOptions,
) -> Prepared:
    """Fold the trained weights and, with a calibration set, find all ranges.

    Raises:
        DataError: weights and configuration do not fit.
    """
    folded = fold(config, weights, form)
    if calibration is None:
        return Prepared(config, form, folded, folded, folded, observed_deploy(config, form, folded).producers)
    equalised = equalise(config, folded) if options.equalise else folded
    observed = observed_deploy(config, form, equalised)
    ranges = widen_summands(choose_ranges(collect(observed, calibration), options.method), observed)
    static = correct_biases(observed, equalised, calibration) if options.correct_biases else equalised
    return Prepared(config, form, folded, equalised, static, observed.producers, ranges)
