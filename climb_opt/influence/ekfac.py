"""EK-FAC: the Fisher matrix of each linear layer in an eigenbasis of its own (arXiv 2308.03296).

kronfluence fits the factors (covariances of a layer's inputs and of its outputs' gradients, their
eigenvectors, and the second moments of gradients in that basis). Parameters outside of linear
layers (embeddings, norms), tied projections and layers too wide for an eigendecomposition keep the
diagonal of the Fisher matrix.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from climb_opt.extras import need
from climb_opt.influence.curvature import DiagonalFisher, OneByOne, drawn_loss
from climb_opt.influence.gradients import Differentiator, Sample

WIDEST = 4096  # outputs or inputs of a layer: its eigendecomposition costs their third power
PURPOSE, PACKAGE = "influence.hessian ekfac", "climb-opt[ekfac]"

Factors = dict[str, dict[str, torch.Tensor]]  # what -> layer -> tensor


@dataclass(frozen=True)
class _Block:
    """A layer's eigenvectors of outputs (o, o) and inputs (i, i), and 1 / damped values (o, i)."""

    outputs: torch.Tensor
    inputs: torch.Tensor
    inverse: torch.Tensor

    def solve(self, gradient: torch.Tensor) -> torch.Tensor:
        turned = self.outputs.T @ gradient @ self.inputs
        return self.outputs @ (turned * self.inverse) @ self.inputs.T


class EKFAC(OneByOne):
    """Damped alike in all layers, as `rest` is: a share of each layer's own mean, as is common,
    inflates what hardly matters (queries and keys of a young model).

    Args:
        sample: what the factors are fitted on.
        rest: of the parameters that are in no layer of these.

    Raises:
        UserError: kronfluence is not installed.
    """

    def __init__(self, model: Differentiator, sample: Sample, *, rest: DiagonalFisher) -> None:
        self.model, self.rest = model, rest
        self.layers = linear_layers(model)
        with warnings.catch_warnings(action="ignore"):  # kronfluence uses old names of torch's
            factors = _fit(model, list(model.batches(sample)), list(self.layers))
        self.blocks, floor = {}, max(rest.damping, 1e-30)
        outputs, inputs = factors["gradient_eigenvectors"], factors["activation_eigenvectors"]
        for name in self.layers:
            values = factors["lambda_matrix"][name] / sample.tokens
            self.blocks[name] = _Block(outputs[name], inputs[name], 1.0 / (values + floor))

    def solve(self, vector: torch.Tensor) -> torch.Tensor:
        """See `OneByOne`."""
        parts = self.model.shaped(vector)
        solved = self.model.shaped(self.rest.solve(vector))
        for name, block in self.blocks.items():
            weight, bias = f"{name}.weight", f"{name}.bias"
            if bias in parts:  # its input is a constant 1 behind the others
                both = block.solve(torch.cat([parts[weight], parts[bias][:, None]], dim=1))
                solved[weight], solved[bias] = both[:, :-1], both[:, -1]
            else:
                solved[weight] = block.solve(parts[weight])
        return self.model.flat([solved[name] for name in self.model.names])


def check() -> None:
    """Raise a `UserError` where kronfluence cannot be imported."""
    with warnings.catch_warnings(action="ignore"):
        need("kronfluence.analyzer", PURPOSE, PACKAGE)


def linear_layers(model: Differentiator) -> dict[str, Any]:
    """The linear layers, by name, that get factors."""
    return {
        name: layer
        for name, layer in model.network.named_modules()
        if isinstance(layer, torch.nn.Linear)
        and f"{name}.weight" in model.names  # a tied one is an embedding too
        and max(layer.in_features, layer.out_features) <= WIDEST
    }


def _fit(model: Differentiator, parts: list[torch.Tensor], layers: list[str]) -> Factors:
    """Factors on every rank, from all ranks' parts."""
    analyzer = need("kronfluence.analyzer", PURPOSE, PACKAGE)
    covariance = need("kronfluence.factor.covariance", PURPOSE, PACKAGE)
    eigen = need("kronfluence.factor.eigen", PURPOSE, PACKAGE)
    arguments = need("kronfluence.arguments", PURPOSE, PACKAGE).FactorArguments("ekfac")
    state = need("kronfluence.utils.state", PURPOSE, PACKAGE).State()
    # Ranks agree below; of its own accord it knows those of torchrun on GPUs only.
    state.device, state.num_processes, state.process_index = model.group.device, 1, 0
    task = _task(layers, torch.Generator(model.group.device).manual_seed(model.group.rank))
    wrapped = analyzer.prepare_model(copy.deepcopy(model.network), task)
    quiet = {"disable_tqdm": True}
    _, found = covariance.fit_covariance_matrices_with_loader(
        wrapped, state, task, parts, arguments, **quiet
    )
    found = _summed(model, found)
    found = eigen.perform_eigendecomposition(found, wrapped, state, arguments, **quiet)
    if model.group.world > 1:  # two machines may choose other signs
        found = model.group.share(found)
    _, values = eigen.fit_lambda_matrices_with_loader(
        wrapped, state, task, loader=parts, factor_args=arguments, eigen_factors=found, **quiet
    )
    device = model.group.device
    both = {**found, **_summed(model, values)}
    return {what: {n: t.to(device) for n, t in named.items()} for what, named in both.items()}


def _summed(model: Differentiator, factors: Factors) -> Factors:
    device = model.group.device
    return {
        what: {name: model.add_up(t.to(device)).cpu() for name, t in of_layers.items()}
        for what, of_layers in factors.items()
    }


def _task(layers: list[str], generator: torch.Generator) -> Any:
    base: Any = need("kronfluence.task", PURPOSE, PACKAGE).Task

    class Drawn(base):  # type: ignore[misc]
        """The summed loss of labels that the model draws."""

        def compute_train_loss(self, batch: Any, model: Any, sample: bool = False) -> Any:
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits.flatten(0, 1)
            return drawn_loss(logits, generator)

        def compute_measurement(self, batch: Any, model: Any) -> Any:
            raise NotImplementedError("only the factors are asked for")

        def get_influence_tracked_modules(self) -> list[str]:
            return layers

    return Drawn()
