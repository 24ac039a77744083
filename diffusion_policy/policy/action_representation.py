"""How a policy writes its actions: absolute, relative to the present, or as steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from diffusion_policy.policy.action_parts import Observation, Part, check_part

Kind = Literal["absolute", "delta", "relative"]


@dataclass
class ActionRepresentation:
    """Absolute actions as the numbers that a policy learns, and back.

    Data and robots speak of absolute targets a_t, at the steps t = 0 to T-1 of a window; x_t is what was measured
    at the observed steps t = 0 to To-1, the present being p = To-1. With (-) and (+) of each part (for a pose
    `T_ref^-1 T` and `T_ref T`, for a vector difference and sum) the policy learns e_t:

    ========  ==========================================  ================================================
    kind      e_t                                         back
    ========  ==========================================  ================================================
    absolute  a_t                                         e_t
    relative  a_t (-) x_p                                 x_p (+) e_t
    delta     a_t (-) x_t for t <= p, a_t (-) a_{t-1}     x_t (+) e_t for t <= p, a_{t-1} (+) e_t after
              after
    ========  ==========================================  ================================================

    The way back is exact for the whole window and needs only what is observed when the policy acts; an executed
    action (t >= p) depends on none before p and on none after itself. Deltas begin anew from what is measured at
    each prediction: up to the present they are the distance by which targets lead the robot, after it the steps
    from target to target. Where a window begins before its episode the first x and a repeat, so does e.

    Args:
        kind: absolute, delta or relative.
        parts: what the action is made of, from its first number to its last.

    Raises:
        ValueError: an unknown kind, or no parts.
    """

    kind: Kind
    parts: Sequence[Part]

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"action_repr.kind must be one of {', '.join(get_args(Kind))}; got {self.kind!r}"
            )
        if not self.parts:
            raise ValueError(
                "action_repr.parts must name what the action is made of, from Pose, Vector and Absolute"
            )
        self.parts = list(self.parts)

    @property
    def keys(self) -> list[str]:
        """The observations that actions are relative to."""
        return list(dict.fromkeys(key for part in self.parts for key, _, _ in part.sources()))

    def check(self, shape_meta: Mapping[str, Any]) -> None:
        """See that the parts make up the action, and that what they read is observed.

        Raises:
            ValueError: says what does not fit.
        """
        sizes, action_dim = self._sizes(), int(shape_meta["action"]["shape"][0])
        if sum(sizes) != action_dim:
            named = ", ".join(f"{type(part).__name__} {part.size}" for part in self.parts)
            raise ValueError(
                f"action_repr: the parts have {sum(sizes)} dimensions ({named}), but shape_meta gives the action "
                f"{action_dim}; a pose is position and 6-D rotation"
            )
        if not self.keys:
            raise ValueError(
                "action_repr: all parts stay absolute; set action_repr.kind=absolute, or name a Vector or Pose"
            )
        for part in self.parts:
            check_part(part, shape_meta)

    def encode(self, actions: Tensor, obs: Observation, n_obs_steps: int, first_step: int = 0) -> Tensor:
        """Write absolute actions as this representation does.

        Args:
            actions: (B, n, Da), of steps `first_step` to `first_step + n - 1`.
            obs: `{key: (B, >=To, D)}`, of which the first To steps are read.
            n_obs_steps: To.
            first_step: for delta at most p = To-1: those after it need the action before.

        Returns:
            (B, n, Da).
        """
        if self.kind == "absolute":
            return actions
        measured = self._measured(obs, n_obs_steps).to(actions)  # (B, To, Da)
        present = n_obs_steps - 1
        references = measured[:, present:]  # (B, 1, Da)
        if self.kind == "delta":
            assert first_step <= present, "the action before the first is not known; policies refuse this"
            before = actions[:, present - first_step : -1]
            references = torch.cat([measured[:, first_step:], before], dim=1)[:, : actions.shape[1]]
        return self._by_part(lambda part, a, x: part.relative(a, x), actions, references)

    def decode(self, encoded: Tensor, obs: Observation, n_obs_steps: int, first_step: int = 0) -> Tensor:
        """Absolute actions (B, n, Da) of what `encode` returns; arguments as there."""
        if self.kind == "absolute":
            return encoded
        measured = self._measured(obs, n_obs_steps).to(encoded)
        present = n_obs_steps - 1
        if self.kind == "relative":
            return self._absolute(encoded, measured[:, present:])
        assert first_step <= present, "the action before the first is not known; policies refuse this"
        n_measured = present + 1 - first_step
        actions = [self._absolute(encoded[:, :n_measured], measured[:, first_step:][:, : encoded.shape[1]])]
        for step in encoded[:, n_measured:].split(1, dim=1):
            actions.append(self._absolute(step, actions[-1][:, -1:]))
        return torch.cat(actions, dim=1)

    def _absolute(self, encoded: Tensor, references: Tensor) -> Tensor:
        return self._by_part(lambda part, e, x: part.absolute(e, x), encoded, references)

    def _by_part(
        self, convert: Callable[[Part, Tensor, Tensor], Tensor], values: Tensor, references: Tensor
    ) -> Tensor:
        """Convert each part of values (B, n, Da) by its references (B, n or 1, Da)."""
        sizes = self._sizes()
        parted = zip(self.parts, values.split(sizes, dim=-1), references.split(sizes, dim=-1), strict=True)
        return torch.cat([convert(part, value, reference) for part, value, reference in parted], dim=-1)

    def _measured(self, obs: Observation, n_obs_steps: int) -> Tensor:
        """What is measured of every number of the action, (B, To, Da)."""
        observed = {key: values[:, :n_obs_steps] for key, values in obs.items()}
        return torch.cat([part.measured(observed) for part in self.parts], dim=-1)

    def _sizes(self) -> list[int]:
        return [part.size for part in self.parts]
