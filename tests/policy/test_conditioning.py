"""Tests for conditioning.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.policy.conditioning import (
    Condition,
    GlobalConditioning,
    InpaintConditioning,
    LocalConditioning,
    TokenConditioning,
    observed_mask,
)

B, T, TO, DA, F = 3, 6, 2, 2, 5
ALL = [GlobalConditioning(), TokenConditioning(), LocalConditioning(), InpaintConditioning()]


def features(n_steps: int = T) -> torch.Tensor:
    return torch.arange(B * n_steps * F, dtype=torch.float32).reshape(B, n_steps, F) + 1


def test_global_condition_is_the_first_steps_one_after_the_other():
    conditioning = GlobalConditioning()
    condition = conditioning.condition(features(), T, TO, DA)
    assert condition.shape == (B, T, DA)
    assert condition.mask is condition.known is None
    given_ = condition.denoiser_kwargs["global_cond"]
    assert torch.equal(given_, torch.cat([features()[:, 0], features()[:, 1]], dim=1))
    assert conditioning.denoiser_dims(DA, F, TO) == {"input_dim": DA, "global_cond_dim": TO * F}
    assert given_.shape == (B, TO * F)


def test_observation_tokens_are_the_first_steps():
    conditioning = TokenConditioning()
    condition = conditioning.condition(features(), T, TO, DA)
    assert condition.shape == (B, T, DA)
    assert condition.mask is condition.known is None
    assert torch.equal(condition.denoiser_kwargs["cond"], features()[:, :TO])
    assert conditioning.denoiser_dims(DA, F, TO) == {"input_dim": DA, "cond_dim": F}


def test_local_condition_is_zero_after_the_observed_steps():
    conditioning = LocalConditioning()
    condition = conditioning.condition(features(), T, TO, DA)
    local_cond = condition.denoiser_kwargs["local_cond"]
    assert local_cond.shape == (B, T, F)
    assert torch.equal(local_cond[:, :TO], features()[:, :TO])
    assert not local_cond[:, TO:].any()
    assert condition.shape == (B, T, DA)
    assert conditioning.denoiser_dims(DA, F, TO) == {"input_dim": DA, "local_cond_dim": F}


def test_inpainting_knows_the_observations_of_the_first_steps_only():
    conditioning = InpaintConditioning()
    condition = conditioning.condition(features(), T, TO, DA)
    assert condition.shape == (B, T, DA + F)
    assert not condition.denoiser_kwargs
    assert condition.known is not None
    assert condition.mask is not None
    assert torch.equal(condition.known[:, :TO, DA:], features()[:, :TO])
    expected = torch.zeros(B, T, DA + F, dtype=torch.bool)
    expected[:, :TO, DA:] = True
    assert torch.equal(condition.mask, expected)
    assert conditioning.denoiser_dims(DA, F, TO) == {"input_dim": DA + F}


@pytest.mark.parametrize("conditioning", ALL, ids=lambda c: type(c).__name__)
def test_later_observations_do_not_matter(conditioning):
    changed = features()
    changed[:, TO:] = torch.nan
    first, second = (conditioning.condition(f, T, TO, DA) for f in (features(), changed))
    for key, value in first.denoiser_kwargs.items():
        assert torch.equal(value, second.denoiser_kwargs[key])
    if first.known is not None:
        assert torch.equal(first.known, second.known)


@pytest.mark.parametrize(
    ("conditioning", "n_steps"),
    list(zip(ALL, [TO, TO, TO, T], strict=True)),
    ids=["global", "tokens", "local", "inpaint"],
)
def test_observation_steps_of_a_training_batch(conditioning, n_steps):
    assert conditioning.n_train_obs_steps(T, TO) == n_steps
    trajectory = conditioning.trajectory(torch.zeros(B, T, DA), features(n_steps))
    assert trajectory.shape == conditioning.condition(features(n_steps), T, TO, DA).shape


def test_inpainting_denoises_features_without_teaching_their_encoder():
    actions, encoded = torch.zeros(B, T, DA, requires_grad=True), features().requires_grad_()
    trajectory = InpaintConditioning().trajectory(actions, encoded)
    assert torch.equal(trajectory[..., DA:], encoded)
    trajectory.sum().backward()
    assert actions.grad is not None
    assert encoded.grad is None

    condition = InpaintConditioning().condition(encoded, T, TO, DA)
    assert condition.known is not None
    condition.known.sum().backward()
    assert encoded.grad is not None
    assert encoded.grad[:, :TO].all()
    assert not encoded.grad[:, TO:].any()


# Known values


def test_known_values_replace_only_what_is_known():
    trajectory = torch.randn(B, T, DA)
    assert Condition((B, T, DA)).with_known_values(trajectory) is trajectory
    mask = torch.zeros(B, T, DA, dtype=torch.bool)
    mask[1, 2] = True
    replaced = Condition((B, T, DA), known=torch.full((B, T, DA), 9.0), mask=mask).with_known_values(
        trajectory
    )
    assert torch.equal(replaced[1, 2], torch.full((DA,), 9.0))
    assert torch.equal(replaced[~mask], trajectory[~mask])


@pytest.mark.parametrize("conditioning", ALL, ids=lambda c: type(c).__name__)
def test_committed_actions_are_known_besides_what_was(conditioning):
    before = conditioning.condition(features(), T, TO, DA)
    actions = torch.full((B, 2, DA), -0.5)
    after = before.with_known_actions(actions, first_step=1)
    assert after.shape == before.shape
    assert after.denoiser_kwargs is before.denoiser_kwargs
    assert after.known is not None
    assert after.mask is not None
    expected = torch.zeros(before.shape, dtype=torch.bool)
    expected[:, 1:3, :DA] = True
    if before.mask is not None:
        expected |= before.mask
        assert before.known is not None
        assert torch.equal(after.known[before.mask], before.known[before.mask])
        assert not before.mask[..., :DA].any()  # unchanged
    assert torch.equal(after.mask, expected)
    assert torch.equal(after.known[:, 1:3, :DA], actions)


# Masks


@given(
    st.lists(st.integers(0, T), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 3), st.booleans()
)
def test_mask_is_its_definition(n_obs_steps, action_dim, obs_dim, action_visible):
    shape = (len(n_obs_steps), T, action_dim + obs_dim)
    mask = observed_mask(shape, action_dim, torch.tensor(n_obs_steps), action_visible)
    for row, n_steps in enumerate(n_obs_steps):
        for step in range(T):
            for dim in range(action_dim + obs_dim):
                observed = step < n_steps if dim >= action_dim else action_visible and step < n_steps - 1
                assert mask[row, step, dim] == observed
