"""The exact case for samplers: mixtures of Gaussians, whose denoiser, conditionals and flow have closed forms."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_policy.model.diffusion.noise_schedule import ForwardProcess
from diffusion_policy.model.diffusion.samplers import Denoise
from diffusion_policy.policy.conditioning import Condition


@dataclass(frozen=True)
class GaussianMixture:
    """Density `sum_k w_k N(x; m_k, C_k)` of points (B, D), all in float64.

    Attributes:
        weights, means, covariances: (K,), (K, D) and (K, D, D).
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def mean(self) -> Tensor:
        """Mean, (D,)."""
        return self.weights @ self.means

    def covariance(self) -> Tensor:
        """Covariance (D, D), within the modes and between them."""
        centred = self.means - self.mean()
        between = centred[:, :, None] * centred[:, None, :]
        return (self.weights[:, None, None] * (self.covariances + between)).sum(dim=0)

    def cdf(self, points: Tensor, direction: Tensor) -> Tensor:
        """P(direction . x <= points), for points (n,) and direction (D,)."""
        centres = self.means @ direction  # (K,)
        spreads = (direction @ self.covariances @ direction).sqrt()  # (K,)
        return torch.special.ndtr((points[:, None] - centres) / spreads) @ self.weights

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw points, (n, D)."""
        mode = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        normal = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        root = torch.linalg.cholesky(self.covariances)[mode]  # (n, D, D)
        return self.means[mode] + torch.einsum("nij,nj->ni", root, normal)

    def noised(self, alpha: float, sigma: float) -> "GaussianMixture":
        """The mixture of `alpha x_0 + sigma eps`."""
        noise = sigma**2 * torch.eye(self.means.shape[1], dtype=torch.float64)
        return GaussianMixture(self.weights, alpha * self.means, alpha**2 * self.covariances + noise)

    def given_first(self, value: float) -> "GaussianMixture":
        """The mixture of the other coordinates where the first is `value`."""
        variance, cross = self.covariances[:, 0, 0], self.covariances[:, 0, 1:]  # (K,), (K, D - 1)
        distance = value - self.means[:, 0]
        weights = self.weights * torch.exp(-(distance**2) / (2 * variance)) / variance.sqrt()
        explained = cross[:, :, None] * cross[:, None, :] / variance[:, None, None]
        return GaussianMixture(
            weights / weights.sum(),
            self.means[:, 1:] + cross * (distance / variance)[:, None],
            self.covariances[:, 1:, 1:] - explained,
        )

    def posterior_mean(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """E[x_0 | x = alpha x_0 + sigma eps] at points x (B, D).

        `alpha` and `sigma` (D,) are those of each coordinate: 1 and 0 where it is given.
        """
        noisy = alpha[:, None] * self.covariances * alpha + torch.diag(sigma**2)  # (K, D, D)
        residual = x.T - (alpha * self.means)[:, :, None]  # (K, D, B)
        solved = torch.linalg.inv(noisy) @ residual
        distance = (residual * solved).sum(dim=1)  # (K, B)
        share = torch.softmax((self.weights.log() - torch.logdet(noisy) / 2)[:, None] - distance / 2, dim=0)
        means = self.means[:, :, None] + (self.covariances * alpha) @ solved  # (K, D, B)
        return (share[:, None, :] * means).sum(dim=0).T


def transport(source: GaussianMixture, target: GaussianMixture, x: Tensor) -> Tensor:
    """Points x (B, 1) of `source` at the same quantile of `target`.

    On a line a probability flow cannot let two points pass each other; so this is where it leads.
    """
    direction = torch.ones(1, dtype=torch.float64)
    quantile = source.cdf(x[:, 0], direction)
    low, high = torch.full_like(quantile, -20.0), torch.full_like(quantile, 20.0)
    for _ in range(60):  # bisection, to 40 / 2^60
        middle = (low + high) / 2
        below = target.cdf(middle, direction) < quantile
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return middle[:, None]


def exact_denoiser(
    mixture: GaussianMixture, process: ForwardProcess, condition: Condition | None = None
) -> Denoise:
    """The best denoiser of trajectories (B, T, D) with the law `mixture` of their T D entries.

    With a `condition` it does what a policy does: it sees the known entries clean and in place. What it says about
    them is wrong on purpose, as a network's answer is, which nothing trains there.
    """

    def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        alpha, sigma = (
            torch.full(x.shape[1:], level, dtype=torch.float64).flatten() for level in process.level(t)
        )
        if condition is not None and condition.mask is not None:
            x = condition.with_known_values(x)
            known = condition.mask[0].flatten()
            alpha, sigma = alpha.masked_fill(known, 1), sigma.masked_fill(known, 0)
        clean = mixture.posterior_mean(x.flatten(start_dim=1), alpha, sigma).reshape(x.shape)
        if condition is not None and condition.mask is not None:
            clean = clean.masked_fill(condition.mask, 9.0)
        return clean, _noise(process, x, clean, t)

    return denoise


def exact_consistency_function(mixture: GaussianMixture, process: ForwardProcess) -> Denoise:
    """The end of the probability flow through x (B, 1, 1), for a mixture on a line."""

    def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        clean = transport(mixture.noised(*process.level(t)), mixture, x[:, :, 0])[:, :, None]
        return clean, _noise(process, x, clean, t)

    return denoise


def _noise(process: ForwardProcess, x: Tensor, clean: Tensor, t: int) -> Tensor:
    alpha, sigma = process.level(t)
    return (x - alpha * clean) / sigma
