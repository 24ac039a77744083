"""Regression in the place of diffusion: in one step, or in the two of a minimal iterative policy.

The same network that denoises predicts the clean trajectory directly. With a mean squared error it learns the mean
of the demonstrated actions, which is none of them where they are multimodal; `Regression` is the control that shows
what denoising adds.
"""

import torch
from torch import Tensor, nn

from diffusion_policy.common.noise import Generators
from diffusion_policy.model.diffusion.samplers import Denoise


class Regression(nn.Module):
    """Stands where a `NoiseSchedule` stands: the noisy trajectory is zero, the target is the clean one."""

    num_train_timesteps = 1

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Zeros, (B, T, D)."""
        return torch.zeros_like(clean)

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """The clean trajectory, (B, T, D)."""
        return clean

    def loss_weight(self, timestep: Tensor) -> Tensor | None:
        """All rows count alike."""
        return None

    def clean_and_noise(self, prediction: Tensor, noisy: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """The prediction is the clean trajectory; there is no noise."""
        return prediction, torch.zeros_like(prediction)


class MinimalIterative(Regression):
    """Regress twice: from nothing, then from a guess that training makes of the truth and a little noise.

    MIP (Pan et al. 2025, arXiv:2512.01809). With `t = second_level`, step 0 predicts `x_0` from zeros and step 1 from
    `x_0 + (1 - t) eps`; their squared errors count `1 / t^2` and `1 / (1 - t)^2`. The paper sums both for every row
    and writes `t x_0 + (1 - t) eps`; here each row draws one of the two, so that a training step costs as much as
    the other objectives', and the guess is not scaled, as in the code its authors released.

    Args:
        second_level: t, the paper's 0.9.
    """

    num_train_timesteps = 2

    def __init__(self, second_level: float = 0.9):
        super().__init__()
        if not 0 < second_level < 1:
            raise ValueError(f"second_level must lie between 0 and 1, got {second_level}")
        self.second_level = second_level

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Zeros at step 0, the clean trajectory and a little noise at step 1, (B, T, D)."""
        guess = clean + (1 - self.second_level) * noise
        return torch.where(timestep[:, None, None] == 0, 0, guess)

    def loss_weight(self, timestep: Tensor) -> Tensor | None:
        """`1 / t^2` at step 0 and `1 / (1 - t)^2` at step 1, (B,)."""
        first, second = self.second_level**-2, (1 - self.second_level) ** -2
        return torch.where(timestep == 0, first, second)


def sample_regression(
    denoise: Denoise, schedule: nn.Module, x: Tensor, *, generator: Generators = None
) -> Tensor:
    """Call the network once, on zeros; the initial noise `x` (B, T, D) gives only the shape."""
    if not isinstance(schedule, Regression):
        raise ValueError(
            f"sample_regression needs a policy trained with Regression or MinimalIterative, got "
            f"{type(schedule).__name__}: take one of the samplers in samplers.py"
        )
    clean, _ = denoise(torch.zeros_like(x), 0)
    return clean


def sample_minimal_iterative(
    denoise: Denoise, schedule: nn.Module, x: Tensor, *, steps: int = 2, generator: Generators = None
) -> Tensor:
    """Regress from zeros, then from the last prediction (Pan et al. 2025); nothing is drawn.

    Args:
        denoise, schedule, x, generator: as for other samplers; `schedule` is `MinimalIterative`.
        steps: number of denoiser calls; the paper's is 2, more repeat the second one.
    """
    if not isinstance(schedule, MinimalIterative):
        raise ValueError(
            f"sample_minimal_iterative needs a policy trained with MinimalIterative, got {type(schedule).__name__}"
        )
    if steps < 1:
        raise ValueError(f"sampler steps must be at least 1, got {steps}")
    clean = sample_regression(denoise, schedule, x, generator=generator)
    for _ in range(steps - 1):
        clean, _ = denoise(clean, 1)
    return clean
