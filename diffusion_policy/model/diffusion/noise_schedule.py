"""How signal and noise mix over diffusion time, and what the denoiser predicts.

A noisy trajectory is `x_t = alpha_t x_0 + sigma_t eps` with `alpha_t = sqrt(abar_t)`, `sigma_t = sqrt(1 - abar_t)`
(Ho et al. 2020, eqn. 4). All tables are computed in float32, as every published checkpoint was trained with.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

BetaSchedule = Literal["squaredcos_cap_v2", "linear", "scaled_linear"]
PredictionType = Literal["epsilon", "sample", "v_prediction"]


def _squared_cosine_betas(n_steps: int, max_beta: float = 0.999) -> np.ndarray:
    """`abar(s) = cos^2((s + 0.008) / 1.008 * pi / 2)` (Nichol & Dhariwal 2021, eqn. 17), each beta capped."""

    def alpha_bar(s: float) -> float:
        return math.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2

    ratios = [alpha_bar((i + 1) / n_steps) / alpha_bar(i / n_steps) for i in range(n_steps)]
    return np.array([min(1 - ratio, max_beta) for ratio in ratios], dtype=np.float32)


def _betas(schedule: str, n_steps: int, start: float, end: float) -> Tensor:
    if schedule == "squaredcos_cap_v2":
        return torch.from_numpy(_squared_cosine_betas(n_steps))
    if schedule == "linear":
        return torch.linspace(start, end, n_steps, dtype=torch.float32)
    if schedule == "scaled_linear":  # latent diffusion's: linear in the square root
        return torch.linspace(start**0.5, end**0.5, n_steps, dtype=torch.float32) ** 2
    raise ValueError(
        f"beta_schedule must be 'squaredcos_cap_v2', 'linear' or 'scaled_linear', got {schedule!r}"
    )


class NoiseSchedule(nn.Module):
    """The forward process of diffusion over `num_train_timesteps` steps, and the denoiser's objective.

    Args:
        num_train_timesteps: number of diffusion steps N.
        beta_schedule: variance added per step. `squaredcos_cap_v2` is the paper's; it has no further
            parameters.
        beta_start, beta_end: first and last variance of the linear schedules.
        prediction_type: what the denoiser predicts: the noise (`epsilon`), the clean trajectory (`sample`) or
            `v = alpha eps - sigma x_0` (`v_prediction`; Salimans & Ho 2022).
    """

    alpha: Tensor
    sigma: Tensor

    def __init__(
        self,
        num_train_timesteps: int = 100,
        beta_schedule: BetaSchedule = "squaredcos_cap_v2",
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        prediction_type: PredictionType = "epsilon",
    ):
        super().__init__()
        if num_train_timesteps < 1:
            raise ValueError(f"num_train_timesteps must be positive, got {num_train_timesteps}")
        if prediction_type not in ("epsilon", "sample", "v_prediction"):
            raise ValueError(
                f"prediction_type must be 'epsilon', 'sample' or 'v_prediction', got {prediction_type!r}"
            )
        self.num_train_timesteps = num_train_timesteps
        self.prediction_type = prediction_type
        betas = _betas(beta_schedule, num_train_timesteps, beta_start, beta_end)
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self.betas = betas  # (N,); samplers read these two on the host: they stay on the CPU
        self.alphas_cumprod = alphas_cumprod  # (N,)
        self.register_buffer("alpha", alphas_cumprod**0.5, persistent=False)
        self.register_buffer("sigma", (1 - alphas_cumprod) ** 0.5, persistent=False)

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Mix `clean` and `noise` (B, T, D) as they are at `timestep` (B,)."""
        alpha, sigma = self._at(timestep)
        return alpha * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the denoiser should predict, (B, T, D)."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return clean
        alpha, sigma = self._at(timestep)
        return alpha * noise - sigma * clean

    def clean_and_noise(self, prediction: Tensor, noisy: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """Convert a prediction at `timestep` to the clean trajectory and the noise, each (B, T, D)."""
        alpha_bar = self.alphas_cumprod[timestep]
        alpha, sigma = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        if self.prediction_type == "epsilon":
            return (noisy - sigma * prediction) / alpha, prediction
        if self.prediction_type == "sample":
            return prediction, (noisy - alpha * prediction) / sigma
        return alpha * noisy - sigma * prediction, alpha * prediction + sigma * noisy

    def _at(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) of each row, (B, 1, 1)."""
        return self.alpha[timestep][:, None, None], self.sigma[timestep][:, None, None]
