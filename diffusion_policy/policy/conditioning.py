"""Ways in which observations reach the denoiser, one small class each.

A conditioning answers four questions: how many observation steps a training batch must hold, which dimensions
the denoiser needs, what trajectory is denoised, and what the denoiser is told about it. The policy names one
of them; nothing else in the project asks which.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any, get_args

import torch
from torch import Tensor, nn


@dataclass
class Condition:
    """What is known about a trajectory before it is denoised.

    Attributes:
        shape: of the trajectory, (B, T, D).
        denoiser_kwargs: further arguments of the denoiser.
        known: values (B, T, D) of which those under `mask` are given; None if nothing is.
        mask: bool (B, T, D), True where `known` holds.
    """

    shape: tuple[int, int, int]
    denoiser_kwargs: dict[str, Tensor] = field(default_factory=dict)
    known: Tensor | None = None
    mask: Tensor | None = None

    def with_known_values(self, trajectory: Tensor) -> Tensor:
        """Put the known values into a trajectory (B, T, D)."""
        if self.mask is None or self.known is None:
            return trajectory
        return torch.where(self.mask, self.known, trajectory)

    def with_known_actions(self, actions: Tensor, first_step: int) -> "Condition":
        """Also give `actions` (B, d, Da) from step `first_step` on: they are decided and may not change."""
        known = torch.zeros(self.shape, device=actions.device, dtype=actions.dtype)
        mask = torch.zeros(self.shape, device=actions.device, dtype=torch.bool)
        if self.known is not None and self.mask is not None:
            known, mask = self.known.clone(), self.mask.clone()
        steps = slice(first_step, first_step + actions.shape[1])
        known[:, steps, : actions.shape[2]] = actions
        mask[:, steps, : actions.shape[2]] = True
        return Condition(self.shape, self.denoiser_kwargs, known, mask)


class GlobalConditioning:
    """The observations of the first To steps, flattened into one vector (the paper's usual choice)."""

    def n_train_obs_steps(self, horizon: int, n_obs_steps: int) -> int:
        """Observation steps that a training batch must hold."""
        return n_obs_steps

    def denoiser_dims(self, action_dim: int, feature_dim: int, n_obs_steps: int) -> dict[str, int]:
        """Arguments of the denoiser's constructor."""
        return {"input_dim": action_dim, "global_cond_dim": n_obs_steps * feature_dim}

    def trajectory(self, actions: Tensor, features: Tensor) -> Tensor:
        """What is denoised: the actions, (B, T, Da)."""
        return actions

    def condition(self, features: Tensor, horizon: int, n_obs_steps: int, action_dim: int) -> Condition:
        """Condition on `features` (B, >=To, F)."""
        first = features[:, :n_obs_steps]
        shape = (len(first), horizon, action_dim)
        return Condition(shape, {"global_cond": first.flatten(start_dim=1)})  # (B, To F), time-major


class TokenConditioning:
    """The observation of each of the first To steps as a token that the denoiser, a transformer, attends to."""

    def n_train_obs_steps(self, horizon: int, n_obs_steps: int) -> int:
        """Observation steps that a training batch must hold."""
        return n_obs_steps

    def denoiser_dims(self, action_dim: int, feature_dim: int, n_obs_steps: int) -> dict[str, int]:
        """Arguments of the denoiser's constructor."""
        return {"input_dim": action_dim, "cond_dim": feature_dim}

    def trajectory(self, actions: Tensor, features: Tensor) -> Tensor:
        """What is denoised: the actions, (B, T, Da)."""
        return actions

    def condition(self, features: Tensor, horizon: int, n_obs_steps: int, action_dim: int) -> Condition:
        """Condition on `features` (B, >=To, F)."""
        tokens = features[:, :n_obs_steps]  # (B, To, F)
        return Condition((len(tokens), horizon, action_dim), {"cond": tokens})


class LocalConditioning:
    """The observation of each step beside the action of that step; zeros after the first To steps."""

    def n_train_obs_steps(self, horizon: int, n_obs_steps: int) -> int:
        """Observation steps that a training batch must hold."""
        return n_obs_steps

    def denoiser_dims(self, action_dim: int, feature_dim: int, n_obs_steps: int) -> dict[str, int]:
        """Arguments of the denoiser's constructor."""
        return {"input_dim": action_dim, "local_cond_dim": feature_dim}

    def trajectory(self, actions: Tensor, features: Tensor) -> Tensor:
        """What is denoised: the actions, (B, T, Da)."""
        return actions

    def condition(self, features: Tensor, horizon: int, n_obs_steps: int, action_dim: int) -> Condition:
        """Condition on `features` (B, >=To, F)."""
        n_rows, _, feature_dim = features.shape
        local_cond = features.new_zeros(n_rows, horizon, feature_dim)  # (B, T, F)
        local_cond[:, :n_obs_steps] = features[:, :n_obs_steps]
        return Condition((n_rows, horizon, action_dim), {"local_cond": local_cond})


class InpaintConditioning:
    """Actions and observations are denoised together, the observations of the first To steps being given.

    Janner et al. 2022, section 3.3. Known entries are kept clean at every noise level, as the original does.
    """

    def n_train_obs_steps(self, horizon: int, n_obs_steps: int) -> int:
        """Observation steps that a training batch must hold: all are denoised."""
        return horizon

    def denoiser_dims(self, action_dim: int, feature_dim: int, n_obs_steps: int) -> dict[str, int]:
        """Arguments of the denoiser's constructor."""
        return {"input_dim": action_dim + feature_dim}

    def trajectory(self, actions: Tensor, features: Tensor) -> Tensor:
        """What is denoised: actions and features, (B, T, Da + F).

        Features are detached: an encoder must not learn to make itself easy to predict. It learns from the known
        entries of the condition.
        """
        return torch.cat((actions, features.detach()), dim=-1)

    def condition(self, features: Tensor, horizon: int, n_obs_steps: int, action_dim: int) -> Condition:
        """Condition on `features` (B, >=To, F)."""
        n_rows, _, feature_dim = features.shape
        shape = (n_rows, horizon, action_dim + feature_dim)
        known = features.new_zeros(shape)  # (B, T, D)
        known[:, :n_obs_steps, action_dim:] = features[:, :n_obs_steps]
        steps = torch.full((n_rows,), n_obs_steps, device=features.device)
        return Condition(shape, known=known, mask=observed_mask(shape, action_dim, steps))


def observed_mask(
    shape: tuple[int, int, int], action_dim: int, n_obs_steps: Tensor, action_visible: bool = False
) -> Tensor:
    """Which entries of a trajectory of actions and observations are given, bool (B, T, Da + Do).

    Args:
        shape: of the trajectory, actions first.
        action_dim: Da.
        n_obs_steps: number of observed steps of each row, (B,).
        action_visible: whether the actions before the last observed step are given too.
    """
    n_rows, horizon, dim = shape
    step = torch.arange(horizon, device=n_obs_steps.device)
    mask = torch.zeros(n_rows, horizon, dim, dtype=torch.bool, device=n_obs_steps.device)
    mask[..., action_dim:] = (step < n_obs_steps[:, None])[..., None]
    if action_visible:
        mask[..., :action_dim] = (step < n_obs_steps[:, None] - 1)[..., None]
    return mask


Conditioning = GlobalConditioning | TokenConditioning | LocalConditioning | InpaintConditioning


def conditioned_denoiser(
    model: Callable[..., nn.Module],
    conditioning: Conditioning,
    action_dim: int,
    feature_dim: int,
    n_obs_steps: int,
) -> nn.Module:
    """Build the denoiser with the dimensions that `conditioning` needs.

    Raises:
        ValueError: the model takes no such arguments; names both, and the conditionings that fit the model.
    """

    def misfit(other: Conditioning) -> TypeError | ValueError | None:
        try:
            signature(model).bind(**other.denoiser_dims(action_dim, feature_dim, n_obs_steps))
        except (
            TypeError,
            ValueError,
        ) as error:  # ValueError: the partial has an argument that it does not take
            return error
        return None

    error = misfit(conditioning)
    if error is not None:
        fitting = [kind.__name__ for kind in get_args(Conditioning) if misfit(kind()) is None]
        choice = f"choose another model, or policy.conditioning from {', '.join(fitting)}"
        raise ValueError(
            f"{_name(model)} does not fit {type(conditioning).__name__}: {error}; "
            f"{choice if fitting else 'compare model with what it takes'}"
        )
    return model(**conditioning.denoiser_dims(action_dim, feature_dim, n_obs_steps))


def _name(model: Any) -> str:
    while isinstance(model, partial):
        model = model.func
    return getattr(model, "__name__", repr(model))
