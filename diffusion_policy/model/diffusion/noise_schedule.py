"""How signal and noise mix over diffusion time, and what the denoiser predicts.

A noisy trajectory is `x_t = alpha_t x_0 + sigma_t eps`. `NoiseSchedule` is diffusion's, with `alpha_t^2 + sigma_t^2 =
1`; `RectifiedFlow` is flow matching's, with `alpha_t + sigma_t = 1`. Samplers see only alpha and sigma, so each of
them works with both.
"""

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

BetaSchedule = Literal["squaredcos_cap_v2", "linear", "scaled_linear"]
PredictionType = Literal["epsilon", "sample", "v_prediction", "velocity"]


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


class ForwardProcess(nn.Module):
    """Signal and noise at N diffusion steps, and the denoiser's objective.

    Args:
        alpha, sigma: shares of signal and noise, float32 (N,), from the clean end (step 0) to the noisy one.
        prediction_type: what the denoiser predicts: the noise (`epsilon`), the clean trajectory (`sample`),
            `v = alpha eps - sigma x_0` (`v_prediction`; Salimans & Ho 2022) or `eps - x_0` (`velocity`).

    Attributes:
        levels: (alpha, sigma) of each step as Python numbers, for samplers: they must not wait for a device.
    """

    alpha: Tensor
    sigma: Tensor

    def __init__(self, alpha: Tensor, sigma: Tensor, prediction_type: PredictionType):
        super().__init__()
        if prediction_type not in get_args(PredictionType):
            allowed = ", ".join(repr(name) for name in get_args(PredictionType))
            raise ValueError(f"prediction_type must be one of {allowed}, got {prediction_type!r}")
        self.num_train_timesteps = len(alpha)
        self.prediction_type = prediction_type
        self.register_buffer("alpha", alpha, persistent=False)
        self.register_buffer("sigma", sigma, persistent=False)
        self.levels = list(zip(alpha.tolist(), sigma.tolist(), strict=True))

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
        if self.prediction_type == "velocity":
            return noise - clean
        alpha, sigma = self._at(timestep)
        return alpha * noise - sigma * clean

    def loss_weight(self, timestep: Tensor) -> Tensor | None:
        """Weight (B,) of each row's squared error; None is 1 for all."""
        return None

    def clean_and_noise(
        self, prediction: Tensor, noisy: Tensor, timestep: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Convert a prediction at `timestep`, one or (B,), to the clean trajectory and the noise, each (B, T, D)."""
        alpha: float | Tensor
        sigma: float | Tensor
        alpha, sigma = self.levels[timestep] if isinstance(timestep, int) else self._at(timestep)
        if self.prediction_type == "epsilon":
            return (noisy - sigma * prediction) / alpha, prediction
        if self.prediction_type == "sample":
            return prediction, (noisy - alpha * prediction) / sigma
        if self.prediction_type == "velocity":
            total = alpha + sigma
            return (noisy - sigma * prediction) / total, (noisy + alpha * prediction) / total
        return alpha * noisy - sigma * prediction, alpha * prediction + sigma * noisy

    def level(self, timestep: int) -> tuple[float, float]:
        """(alpha, sigma) at `timestep` as numbers; (1, 0) at -1, the clean end."""
        return self.levels[timestep] if timestep >= 0 else (1.0, 0.0)

    def added_variance(self, timestep: int, cleaner: int) -> float:
        """Variance of x at `timestep` given x at the step `cleaner` (-1: the clean end); `beta` of neighbours."""
        (alpha, sigma), (cleaner_alpha, cleaner_sigma) = self.level(timestep), self.level(cleaner)
        return sigma**2 - (alpha / cleaner_alpha * cleaner_sigma) ** 2

    def _at(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) of each row, (B, 1, 1)."""
        return self.alpha[timestep][:, None, None], self.sigma[timestep][:, None, None]


class NoiseSchedule(ForwardProcess):
    """Diffusion: `alpha_t = sqrt(abar_t)`, `sigma_t = sqrt(1 - abar_t)` (Ho et al. 2020, eqn. 4).

    All tables are computed in float32, as every published checkpoint was trained with.

    Args:
        num_train_timesteps: number of diffusion steps N.
        beta_schedule: variance added per step. `squaredcos_cap_v2` is the paper's; it has no further
            parameters.
        beta_start, beta_end: first and last variance of the linear schedules.
        prediction_type: see `ForwardProcess`.
    """

    def __init__(
        self,
        num_train_timesteps: int = 100,
        beta_schedule: BetaSchedule = "squaredcos_cap_v2",
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        prediction_type: PredictionType = "epsilon",
    ):
        _check_steps(num_train_timesteps)
        betas = _betas(beta_schedule, num_train_timesteps, beta_start, beta_end)
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        super().__init__(alphas_cumprod**0.5, (1 - alphas_cumprod) ** 0.5, prediction_type)
        self.betas = betas  # (N,); these two stay on the CPU
        self.alphas_cumprod = alphas_cumprod  # (N,)
        self.levels = [
            (power**0.5, (1 - power) ** 0.5) for power in alphas_cumprod.tolist()
        ]  # roots in float64

    def added_variance(self, timestep: int, cleaner: int) -> float:
        """`1 - abar_t / abar_s` in float32, as published numbers were sampled with."""
        ratio = self.alphas_cumprod[timestep] / (self.alphas_cumprod[cleaner] if cleaner >= 0 else 1)
        return float(1 - ratio)


class RectifiedFlow(ForwardProcess):
    """Flow matching on straight lines: `x_t = (1 - t) x_0 + t eps`, with velocity `eps - x_0`.

    Liu et al. 2023, eqn. 1, and Lipman et al. 2023, eqn. 20, with time running from data to noise: `t = 1/N, ..., 1`.
    A step of DDIM is Euler's here, and `sample_heun` is Heun's.

    Args:
        num_train_timesteps: number of times N.
        prediction_type: see `ForwardProcess`.
    """

    def __init__(self, num_train_timesteps: int = 100, prediction_type: PredictionType = "velocity"):
        _check_steps(num_train_timesteps)
        if prediction_type in ("epsilon", "v_prediction"):
            raise ValueError(
                f"prediction_type must be 'velocity' or 'sample', got {prediction_type!r}: epsilon leaves "
                f"the signal open at t = 1, and v_prediction needs alpha^2 + sigma^2 = 1"
            )
        time = torch.arange(1, num_train_timesteps + 1) / num_train_timesteps  # (N,)
        super().__init__(1 - time, time, prediction_type)


def _check_steps(num_train_timesteps: int) -> None:
    if num_train_timesteps < 1:
        raise ValueError(f"num_train_timesteps must be positive, got {num_train_timesteps}")
