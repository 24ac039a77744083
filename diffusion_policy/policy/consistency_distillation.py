"""From a trained policy to one that needs a single denoiser call."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from diffusion_policy.model.diffusion.noise_schedule import ForwardProcess
from diffusion_policy.policy.action_representation import ActionRepresentation
from diffusion_policy.policy.conditioning import Condition
from diffusion_policy.policy.load_policy import load_policy


class Denoising(Protocol):
    """What is needed of a `DiffusionPolicy`, be it teacher or student."""

    model: nn.Module
    noise_schedule: Any
    horizon: int
    n_obs_steps: int
    pred_action_steps_only: bool
    clip_sample: bool
    action_repr: ActionRepresentation | None

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""

    def encode(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Features (B, steps, F) of observations."""

    def condition(self, features: Tensor) -> Condition:
        """What the denoiser is told."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and normaliser."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take weights and normaliser."""

    def to(self, device: torch.device) -> Any:
        """Move them."""


class ConsistencyDistillation:
    """Learn to predict, from any noisy trajectory, where the teacher's probability flow ends.

    Song et al. 2023, algorithm 2: one step of the teacher's DDIM leads from x_t to a cleaner x_s, from which the
    student must predict the same end. Its target is therefore its own prediction from x_s, without gradient and
    without averaging (Song & Dhariwal 2024, section 3.2), and at the clean end the teacher's. As each prediction is
    anchored there, the network needs no skip connection to be right at t = 0.

    The student begins with the teacher's weights and keeps its normaliser. The teacher is read when the training
    begins, and is no part of the student: its checkpoint is not needed later.

    Args:
        teacher: a checkpoint's folder, or a run's (its latest); None in a policy that is not trained further.
        steps: number of steps in which the teacher's flow is followed; at most its diffusion steps.
        trusted_targets: full names outside this package that the teacher's configuration may build.
    """

    def __init__(self, teacher: str | None = None, steps: int = 20, trusted_targets: Sequence[str] = ()):
        if steps < 1:
            raise ValueError(f"distillation.steps must be at least 1, got {steps}")
        self.teacher_path = teacher
        self.steps = steps
        self.trusted_targets = trusted_targets
        self._teacher: Denoising | None = None

    def start(self, student: Denoising) -> None:
        """Give `student` the teacher's weights and normaliser.

        Raises:
            FileNotFoundError: there is no checkpoint at `teacher`.
            ValueError: the teacher has other sizes, or does not denoise as the student does; says what differs.
        """
        teacher = self.teacher(student)
        try:
            student.load_state_dict(teacher.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"distillation.teacher {self.teacher_path} has other sizes than the policy: train with its model, "
                f"horizon and observations. {error}"
            ) from error

    def target(
        self,
        student: Denoising,
        batch: Mapping[str, Any],
        noisy: Tensor,
        timestep: Tensor,
        condition: Condition,
    ) -> Tensor:
        """Clean trajectory (B, T, D) that `student` should predict.

        Args:
            student: the policy in training.
            batch: as for `compute_loss`.
            noisy: (B, T, D) at `timestep` (B,).
            condition: the student's.
        """
        teacher = self.teacher(student)
        schedule = _forward_process(teacher)
        stride = schedule.num_train_timesteps // self.steps
        cleaner = timestep - stride  # (B,), -1 and less: the clean end
        with torch.no_grad():
            features = batch["features"] if "features" in batch else teacher.encode(batch["obs"])
            teacher_condition = teacher.condition(features)
            noisy = teacher_condition.with_known_values(noisy)
            prediction = teacher.model(noisy, timestep, **teacher_condition.denoiser_kwargs)
            end, noise = schedule.clean_and_noise(prediction, noisy, timestep)
            if teacher.clip_sample:
                end = end.clamp(-1, 1)
            is_end = (cleaner < 0)[:, None, None]
            cleaner = cleaner.clamp(min=0)
            cleaner_noisy = condition.with_known_values(schedule.add_noise(end, noise, cleaner))
            own = student.model(cleaner_noisy, cleaner, **condition.denoiser_kwargs)
            return torch.where(is_end, end, own.clamp(-1, 1) if student.clip_sample else own)

    def teacher(self, student: Denoising) -> Denoising:
        """The teacher in eval mode, read once, on the student's device."""
        if self._teacher is None:
            if self.teacher_path is None:
                raise ValueError(
                    "distillation needs a trained policy: policy.distillation.teacher=RUN, its folder"
                )
            with torch.random.fork_rng(devices=[]):  # a resumed run reads it amid its steps: draw nothing
                teacher = load_policy(self.teacher_path, "cpu", trusted_targets=self.trusted_targets)
            _check_fit(teacher, student, self.steps)
            self._teacher = teacher.requires_grad_(False)  # type: ignore[assignment]
        assert self._teacher is not None, "it was read above"
        if self._teacher.device != student.device:
            self._teacher.to(student.device)
        return self._teacher

    def __deepcopy__(self, memo: dict[int, Any]) -> "ConsistencyDistillation":
        """A copy that shares the teacher."""
        twin = ConsistencyDistillation(self.teacher_path, self.steps, self.trusted_targets)
        twin._teacher = self._teacher
        return twin


def _forward_process(policy: Denoising) -> ForwardProcess:
    assert isinstance(policy.noise_schedule, ForwardProcess), "checked when the teacher was read"
    return policy.noise_schedule


def _check_fit(teacher: Any, student: Denoising, steps: int) -> None:
    process = getattr(teacher, "noise_schedule", None)
    if not isinstance(process, ForwardProcess):
        raise ValueError(
            f"distillation.teacher must denoise, got a {type(teacher).__name__} without noise schedule"
        )
    for name in ("horizon", "n_obs_steps", "pred_action_steps_only"):
        if getattr(teacher, name) != getattr(student, name):
            raise ValueError(
                f"distillation.teacher has {name}={getattr(teacher, name)}, and the policy {getattr(student, name)}: "
                f"train with the teacher's"
            )
    if teacher.action_repr != student.action_repr:
        raise ValueError(
            f"distillation.teacher has {_described(teacher)}, and the policy {_described(student)}: train with the "
            "teacher's task.action_repr"
        )
    own = student.noise_schedule
    if not isinstance(own, ForwardProcess) or own.prediction_type != "sample" or own.levels != process.levels:
        raise ValueError(
            "distillation needs noise_schedule.prediction_type=sample, and otherwise the teacher's noise schedule"
        )
    if steps > process.num_train_timesteps:
        raise ValueError(
            f"distillation.steps must be at most the teacher's {process.num_train_timesteps} diffusion steps, "
            f"got {steps}"
        )


def _described(policy: Denoising) -> str:
    return f"the actions {policy.action_repr or 'as they are (absolute)'}"
