"""Plain regression in the place of diffusion: the control that shows what denoising adds.

The same network sees no noisy trajectory (zeros, at diffusion step 0) and predicts the clean one in a single
call. With a mean squared error it learns the mean of the demonstrated actions, which is none of them where
they are multimodal.
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

    def clean_and_noise(self, prediction: Tensor, noisy: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """The prediction is the clean trajectory; there is no noise."""
        return prediction, torch.zeros_like(prediction)


def sample_regression(
    denoise: Denoise, schedule: nn.Module, x: Tensor, *, generator: Generators = None
) -> Tensor:
    """Call the network once, on zeros; the initial noise `x` (B, T, D) gives only the shape."""
    clean, _ = denoise(torch.zeros_like(x), 0)
    return clean
