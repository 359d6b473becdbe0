"""The influence of domains at a proxy's end: its gradients, its curvatures, and their sign."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from climb_opt.errors import UserError
from climb_opt.evaluators.heldout import HeldOutLoss
from climb_opt.influence.curvature import DiagonalFisher, GaussNewton, conjugate_gradients
from climb_opt.influence.gradients import Differentiator, Sample, dot, of_mixture
from climb_opt.proxy import model
from climb_opt.proxy.data import Sequences
from climb_opt.proxy.group import ProxyGroup
from climb_opt.recipes import ModelRecipe
from climb_opt.shards import Corpus

TINY = ModelRecipe(hidden=8, layers=1, heads=2, intermediate=8)


@pytest.fixture(scope="module")
def group() -> ProxyGroup:
    return ProxyGroup("fp32")


@pytest.fixture(scope="module")
def sequences(tiny_corpus: Corpus) -> Sequences:
    return Sequences(tiny_corpus, 16)


@pytest.fixture(scope="module")
def few(tiny_corpus: Corpus) -> Sequences:
    """So short that the Jacobian of all logits fits in memory."""
    return Sequences(tiny_corpus, 8)


@pytest.fixture
def exact(tiny_corpus: Corpus, group: ProxyGroup) -> Differentiator:
    """A model of 3,032 parameters in double precision."""
    network = model.build(TINY, model.configure(TINY, tiny_corpus, 16), seed=1)
    return Differentiator(network.double(), group)


# --- gradients -----------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences(
    exact: Differentiator, sequences: Sequences
) -> None:
    sample = of_mixture(sequences, {"web": 1.0, "math": 1.0}, 512, 0)
    gradient = exact.of(exact.terms(sample))
    rng = torch.Generator().manual_seed(0)
    for _ in range(3):
        step = 1e-3 * torch.randn(exact.size, generator=rng, dtype=torch.float64)
        both = []
        for sign in (1, -1):
            _move(exact, sign * step)
            with torch.no_grad():
                both.append(float(sum(exact.terms(sample))))
            _move(exact, -sign * step)
        assert both[0] - both[1] == pytest.approx(2 * dot(gradient, step), rel=1e-2)


def _move(model: Differentiator, step: torch.Tensor) -> None:
    with torch.no_grad():
        for parameter, part in zip(model.parameters, model.shaped(step).values(), strict=True):
            parameter += part


def test_the_terms_of_held_out_text_add_up_to_its_score(
    tiny_corpus: Corpus, network: Any, group: ProxyGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("climb_opt.evaluators.heldout.LOGITS", 2**15)  # several batches
    evaluator = HeldOutLoss(tiny_corpus, domains=True)
    scores = evaluator.evaluate(network, group.accelerator)
    for name in evaluator.smooth():
        terms = [float(t.detach()) for t in evaluator.terms(name, network, group.accelerator)]
        assert len(terms) > 1 and sum(terms) == pytest.approx(scores[name], rel=1e-5)
        assert evaluator.tokens_read(name) > 1_000


def test_ranks_that_share_the_work_find_the_gradient_of_one(
    tiny_corpus: Corpus, network: Any, group: ProxyGroup, sequences: Sequences
) -> None:
    sample, evaluator = of_mixture(sequences, {"web": 1.0}, 528, 0), HeldOutLoss(tiny_corpus)

    def gradients(rank: int, world: int) -> list[torch.Tensor]:
        accelerator = SimpleNamespace(
            process_index=rank, num_processes=world, device=group.device,
            reduce=lambda vector, reduction: vector,
        )  # fmt: skip
        one: Any = SimpleNamespace(
            rank=rank, world=world, device=group.device, accelerator=accelerator
        )
        model = Differentiator(network, one)
        terms = evaluator.terms("sums/bpb", network, model.accelerator)
        return [model.of(terms), model.of(model.terms(sample))]

    whole, first, second = gradients(0, 1), gradients(0, 2), gradients(1, 2)
    for all_, a, b in zip(whole, first, second, strict=True):
        assert torch.allclose(all_, a + b, atol=1e-6) and not torch.allclose(a, b, atol=1e-4)


# --- curvatures ----------------------------------------------------------------------------------


def test_gauss_newton_products_are_those_of_the_explicit_matrix(
    exact: Differentiator, few: Sequences
) -> None:
    sample = of_mixture(few, {"web": 1.0}, 8, 0)
    matrix = _explicit(exact, sample)
    found = GaussNewton(exact, sample, damping=0.0, iterations=1, tolerance=0.1)
    rng = torch.Generator().manual_seed(0)
    for _ in range(3):
        v = torch.randn(exact.size, generator=rng, dtype=torch.float64)
        assert torch.allclose(found.product(v), matrix(v), rtol=1e-4, atol=1e-6)
    assert found.products == 3


def _explicit(model: Differentiator, sample: Sample) -> Callable[[torch.Tensor], torch.Tensor]:
    """J^T (diag(q) - q q^T) J / tokens from the Jacobian J of every logit, one row at a time."""
    tokens = torch.from_numpy(sample.sequences.read(sample.ids).astype(np.int64))
    with sdpa_kernel(SDPBackend.MATH):
        logits = model.network(input_ids=tokens[:, :-1]).logits.flatten(0, 1)
        unit = torch.eye(logits.numel(), dtype=logits.dtype).view(-1, *logits.shape)
        parts = torch.autograd.grad(
            logits, model.parameters, unit, is_grads_batched=True, allow_unused=True
        )
    columns = [
        (torch.zeros_like(p).expand(len(unit), *p.shape) if g is None else g).flatten(1)
        for p, g in zip(model.parameters, parts, strict=True)
    ]
    jacobian = torch.cat(columns, dim=1).view(*logits.shape, -1)
    q = torch.softmax(logits.detach(), 1)
    centred = jacobian - torch.einsum("tv,tvp->tp", q, jacobian)[:, None]

    def product(v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("tv,tvp,tv->p", q, centred, centred @ v) / len(logits)

    product.diagonal = torch.einsum("tv,tvp->p", q, centred**2) / len(logits)  # type: ignore[attr-defined]
    return product


def test_the_diagonal_fisher_is_the_gauss_newton_matrixs_diagonal_in_the_mean(
    exact: Differentiator, few: Sequences
) -> None:
    sample = of_mixture(few, {"web": 1.0}, 8, 0)
    wanted: Any = _explicit(exact, sample)
    many = [DiagonalFisher(exact, sample, damping=0.1, seed=seed).diagonal for seed in range(60)]
    mean, truth = torch.stack(many).mean(0).double(), wanted.diagonal
    assert mean.sum() == pytest.approx(float(truth.sum()), rel=0.1)
    assert _cosine(mean, truth) > 0.9


@settings(max_examples=25)
@given(st.integers(0, 2**16), st.integers(2, 12))
def test_conjugate_gradients_solve_as_a_dense_solver_does(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    matrix, right = torch.from_numpy(root @ root.T + 0.3 * np.eye(n)), torch.from_numpy(root[0])
    shifts = [0.0, 0.2, 5.0, 300.0]
    found, residuals = conjugate_gradients(
        lambda v: matrix @ v, right, shifts, iterations=10 * n, tolerance=1e-10
    )
    assert residuals == sorted(residuals, reverse=True) or max(residuals) <= 1e-10
    for x, shift in zip(found, shifts, strict=True):
        exact = torch.linalg.solve(matrix + shift * torch.eye(n), right)
        assert torch.allclose(x, exact, rtol=1e-5, atol=1e-8)


def test_residuals_of_shifted_systems_are_what_is_left() -> None:
    matrix = torch.diag(torch.logspace(-3, 3, 40, dtype=torch.float64))
    right, shifts = torch.ones(40, dtype=torch.float64), [0.0, 1.0, 100.0]
    found, residuals = conjugate_gradients(
        lambda v: matrix @ v, right, shifts, iterations=8, tolerance=1e-9
    )
    for x, residual, shift in zip(found, residuals, shifts, strict=True):
        left = right - matrix @ x - shift * x
        assert residual == pytest.approx(float(left.norm() / right.norm()), rel=1e-6)
    assert residuals[0] > residuals[1] > residuals[2] > 0


def test_where_conjugate_gradients_do_not_converge_damping_is_raised_for_all_alike(
    exact: Differentiator, few: Sequences, caplog: pytest.LogCaptureFixture
) -> None:
    sample = of_mixture(few, {"web": 1.0}, 8, 0)
    matrix = _explicit(exact, sample)
    size, rng = float(matrix.diagonal.mean()), torch.Generator().manual_seed(0)
    vectors = torch.randn(2, exact.size, generator=rng, dtype=torch.float64)
    given = {"damping": 0.1 * size, "tolerance": 1e-2}
    enough = GaussNewton(exact, sample, iterations=400, **given)
    enough.solve_all(vectors)
    assert enough.raised == 1 and not caplog.records
    short = GaussNewton(exact, sample, iterations=12, **given)
    solved = short.solve_all(vectors)
    assert short.raised > 1 and f"with {short.raised} times the damping" in caplog.text
    assert short.products <= 24, "a further damping costs no further product"
    for x, v in zip(solved, vectors, strict=True):
        left = v - matrix(x) - short.raised * short.damping * x
        assert float(left.norm() / v.norm()) <= 1.5e-2


def test_conjugate_gradients_of_nothing_and_cut_short() -> None:
    matrix = torch.diag(torch.arange(1.0, 9.0))
    (nothing,), (residual,) = conjugate_gradients(
        lambda v: matrix @ v, torch.zeros(8), iterations=5, tolerance=1e-3
    )
    assert not nothing.any() and residual == 0
    _, (residual,) = conjugate_gradients(
        lambda v: matrix @ v, torch.ones(8), iterations=2, tolerance=1e-6
    )
    assert residual > 1e-6, "how far it is from the solution is said"


def test_ekfac_solves_a_damped_curvature_of_every_layer(
    tiny_corpus: Corpus, group: ProxyGroup, sequences: Sequences
) -> None:
    pytest.importorskip("kronfluence")
    from climb_opt.influence.ekfac import EKFAC, linear_layers

    shape = replace(TINY, tied=False)
    network = model.build(shape, model.configure(shape, tiny_corpus, 16), seed=1)
    held = Differentiator(network, group)
    assert "lm_head" in linear_layers(held) and len(linear_layers(held)) == 8
    sample = of_mixture(sequences, {"web": 1.0}, 2_048, 0)
    fisher = DiagonalFisher(held, sample, damping=0.1)
    found = EKFAC(held, sample, rest=fisher)
    newton = GaussNewton(held, sample, damping=fisher.damping, iterations=300,
                         tolerance=1e-4)  # fmt: skip
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, held.size, generator=rng)
    assert dot(a, found.solve(b)) == pytest.approx(dot(found.solve(a), b), rel=1e-3), "symmetric"
    assert dot(a, found.solve(a)) > 0
    gradient = held.of(held.terms(sample))
    (exact,) = newton.solve_all([gradient])
    assert _cosine(found.solve(gradient), exact) > _cosine(gradient, exact)
    assert all(p.requires_grad for p in held.parameters), "the model is as it was"
    again = EKFAC(held, sample, rest=fisher)
    assert torch.equal(again.solve(a), found.solve(a)), "the same labels are drawn"


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return dot(a, b) / float(a.norm() * b.norm())


def test_ekfac_without_its_library_says_how_to_install_it(
    exact: Differentiator, sequences: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    from climb_opt.influence.ekfac import EKFAC

    monkeypatch.setitem(sys.modules, "kronfluence.analyzer", None)
    sample = of_mixture(sequences, {"web": 1.0}, 64, 0)
    fisher = DiagonalFisher(exact, sample, damping=0.1)
    with pytest.raises(UserError, match=r"pip install 'climb-opt\[ekfac\]'"):
        EKFAC(exact, sample, rest=fisher)
