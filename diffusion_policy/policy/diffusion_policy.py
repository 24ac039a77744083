"""Diffusion Policy (Chi et al. 2023): denoise a chunk of future actions given the last observations."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_policy.common.noise import Generators, own_rows, randn
from diffusion_policy.model.common.normalizer import FieldNormalizer
from diffusion_policy.model.diffusion.noise_schedule import ForwardProcess
from diffusion_policy.model.diffusion.regression import Regression
from diffusion_policy.model.diffusion.samplers import Denoise, Sampler
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.policy.action_representation import ActionRepresentation
from diffusion_policy.policy.base_policy import BasePolicy, Demonstrations
from diffusion_policy.policy.checked_obs import checked_obs
from diffusion_policy.policy.conditioning import (
    Condition,
    Conditioning,
    GlobalConditioning,
    TokenConditioning,
    conditioned_denoiser,
)
from diffusion_policy.policy.consistency_distillation import ConsistencyDistillation


class DiffusionPolicy(BasePolicy):
    """A denoiser, a way of conditioning it on observations, a noise schedule and a sampler.

    Training minimises `|| denoiser(alpha_t x_0 + sigma_t eps, t, obs) - target ||^2` over diffusion steps t
    and noise eps (eqn. 5 of the paper); acting samples x_0. Everything inside works in normalised units, [-1,
    1] per dimension, of actions as `action_repr` writes them; outside they are absolute.

    Args:
        shape_meta: names, shapes and types of the task's observations and action.
        horizon: predicted steps T.
        n_obs_steps: observed steps To.
        n_action_steps: executed steps Ta; the first one is at index `To - 1` of the prediction.
        model: the denoiser's class with its sizes but for those that `conditioning` knows (a Hydra partial).
        conditioning: how observations reach the denoiser.
        noise_schedule: forward process and objective: `NoiseSchedule` (diffusion), `RectifiedFlow` (flow matching),
            `MinimalIterative` or `Regression`.
        sampler: from noise to a trajectory, a function of `model.diffusion.samplers` (a Hydra partial).
        obs_encoder: from normalised observations to features (B, steps, F); None concatenates low-dimensional
            ones.
        clip_sample: clip the clean trajectory to [-1, 1] at every sampling step.
        pred_action_steps_only: denoise only the Ta executed steps instead of T.
        first_action_step: index of the first executed step; None is `To - 1`. Only checkpoints of the
            original need another.
        obs_encoder_lr, obs_encoder_weight_decay: of the observation encoder; None is the optimizer's.
        distillation: learn from a trained policy instead of the demonstrated actions, to sample in one step.
        action_repr: how the policy writes actions: relative to what is measured, as steps, or (None) as they are.
            It is a property of the task.

    Raises:
        ValueError: arguments that do not fit each other; says which.
    """

    def __init__(
        self,
        shape_meta: Mapping[str, Any],
        horizon: int,
        n_obs_steps: int,
        n_action_steps: int,
        model: Callable[..., nn.Module],
        conditioning: Conditioning,
        noise_schedule: ForwardProcess | Regression,
        sampler: Sampler,
        obs_encoder: nn.Module | None = None,
        clip_sample: bool = True,
        pred_action_steps_only: bool = False,
        first_action_step: int | None = None,
        obs_encoder_lr: float | None = None,
        obs_encoder_weight_decay: float | None = None,
        distillation: ConsistencyDistillation | None = None,
        action_repr: ActionRepresentation | None = None,
    ):
        super().__init__(shape_meta, horizon, n_obs_steps, n_action_steps)
        if first_action_step is not None:
            self.first_action_step = first_action_step
        if self.first_action_step + n_action_steps > horizon:
            raise ValueError(
                f"horizon={horizon} is too short: the executed steps end before index first_action_step + "
                f"n_action_steps = {self.first_action_step + n_action_steps}"
            )
        if pred_action_steps_only and not isinstance(conditioning, GlobalConditioning | TokenConditioning):
            raise ValueError(
                f"pred_action_steps_only needs GlobalConditioning or TokenConditioning, got "
                f"{type(conditioning).__name__}: the others give observations beside the actions of the same steps"
            )
        self.obs_encoder = MultiImageObsEncoder(shape_meta) if obs_encoder is None else obs_encoder
        self.conditioning = conditioning
        feature_dim = cast(int, self.obs_encoder.feature_dim)
        self.model = conditioned_denoiser(model, conditioning, self.action_dim, feature_dim, n_obs_steps)
        self.noise_schedule = noise_schedule
        self.sampler = sampler
        self.clip_sample = clip_sample
        self.pred_action_steps_only = pred_action_steps_only
        self.obs_encoder_lr = obs_encoder_lr
        self.obs_encoder_weight_decay = obs_encoder_weight_decay
        self.distillation = distillation
        self.action_repr = self._checked_representation(action_repr)
        self._check_sampler()

    @property
    def n_train_obs_steps(self) -> int:
        """Observation steps that a training batch must hold: To, or T where observations are denoised too."""
        return self.conditioning.n_train_obs_steps(self.horizon, self.n_obs_steps)

    @property
    def has_frozen_encoder(self) -> bool:
        """Whether the encoder is frozen: training batches may then hold `features` instead of `obs`."""
        return bool(getattr(self.obs_encoder, "frozen", False))

    def fit(self, dataset: Demonstrations) -> None:
        """Fit the normaliser, and let networks of the encoder read their files of weights, where they have any.

        The normaliser of actions is fitted to all training windows where `action_repr` makes them depend on these.
        With `distillation`, take all that from the teacher.
        """
        if self.distillation is not None:
            self.distillation.start(self)
            return
        normalizer = dataset.get_normalizer()
        if self.action_repr is not None:
            normalizer["action"] = FieldNormalizer.create_fit_of_blocks(
                self.written_actions(window["action"], window["obs"])
                for window in dataset.windows(self.n_obs_steps, self.action_repr.keys)
            )
        self.set_normalizer(normalizer)
        for module in self.obs_encoder.modules():
            if hasattr(module, "load_pretrained"):
                cast(Callable[[], None], module.load_pretrained)()

    def param_groups(self) -> list[dict[str, Any]]:
        """The denoiser's own groups where it has a `param_groups`, else one, and the encoder's.

        One group in all where neither the denoiser nor `obs_encoder_lr` and `obs_encoder_weight_decay` part them.
        """
        given = {"lr": self.obs_encoder_lr, "weight_decay": self.obs_encoder_weight_decay}
        of_encoder = {name: value for name, value in given.items() if value is not None}
        own_groups = getattr(self.model, "param_groups", None)
        if own_groups is None and not of_encoder:
            return super().param_groups()
        denoiser, encoder = (
            [parameter for parameter in module.parameters() if parameter.requires_grad]
            for module in (self.model, self.obs_encoder)
        )
        groups = [{"params": denoiser}] if own_groups is None else own_groups()
        return [*groups, {"params": encoder, **of_encoder}] if encoder else groups

    def compute_loss(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the denoiser at one random diffusion step per row.

        Known entries (in-painting) count as zeros in the mean, as in the original.

        Args:
            batch: `{"obs": {key: (B, n_train_obs_steps, ...)}, "action": (B, T, Da)}` in the task's units. With
                `"features"` (B, n_train_obs_steps, F), what `encode` made of `obs`, only those of `obs` are needed
                that `action_repr` reads.

        Returns:
            The loss, and `{"loss": it}` for the log.
        """
        features = batch["features"] if "features" in batch else self.encode(batch["obs"])
        actions = self.normalizer["action"].normalize(
            self.written_actions(batch["action"], batch.get("obs", {}))
        )
        clean = self.conditioning.trajectory(actions, features)  # (B, T, D)
        condition = self.condition(features)

        noise = own_rows(lambda n: torch.randn((n, *clean.shape[1:]), device=clean.device), len(clean))
        n_timesteps = self.noise_schedule.num_train_timesteps
        timestep = own_rows(lambda n: torch.randint(0, n_timesteps, (n,), device=clean.device), len(clean))

        noisy = self.noise_schedule.add_noise(clean, noise, timestep)
        noisy = condition.with_known_values(noisy)
        prediction = self.model(noisy, timestep, **condition.denoiser_kwargs)
        if self.distillation is None:
            target = self.noise_schedule.target(clean, noise, timestep)
        else:
            target = self.distillation.target(self, batch, noisy, timestep, condition)
        error = functional.mse_loss(prediction, target, reduction="none")  # (B, T, D)
        if condition.mask is not None:
            error = error.masked_fill(condition.mask, 0)
        weight = self.noise_schedule.loss_weight(timestep)
        if weight is not None:
            error = error * weight[:, None, None]
        loss = error.mean()
        return loss, {"loss": loss.detach()}

    @torch.no_grad()
    def predict_action(
        self,
        obs: Mapping[str, Tensor],
        *,
        generator: Generators = None,
        noise: Tensor | None = None,
        committed: Tensor | None = None,
    ) -> dict[str, Any]:
        """Sample a chunk of actions.

        Args:
            obs: `{key: (B, >=To, ...)}` in the task's units; the first To steps are used.
            generator: of the noise: None for torch's global one, one generator, or a list with one per row.
            noise: initial noise (B, T, D) instead of drawing it.
            committed: actions (B, d, Da) that are decided already; the first executed steps take these
                values.

        Returns:
            `action` (B, Ta, Da), `action_pred` (B, T, Da), and with in-painting `obs_pred` `{key: (B, T,
            ...)}`.

        Raises:
            ValueError: an argument has the wrong shape, or an observation is not finite; names it.
        """
        obs = checked_obs(obs, self.shape_meta, self.n_obs_steps)
        condition = self.condition(self.encode(obs, generator))
        if committed is not None:
            self._check_committed(committed, n_rows=condition.shape[0])
            first = 0 if self.pred_action_steps_only else self.first_action_step
            if self.action_repr is not None:
                committed = self.action_repr.encode(committed, obs, self.n_obs_steps, self.first_action_step)
            condition = condition.with_known_actions(self.normalizer["action"].normalize(committed), first)
        trajectory = self.conditional_sample(condition, generator=generator, noise=noise)

        action_pred = self.normalizer["action"].unnormalize(trajectory[..., : self.action_dim])
        if self.action_repr is not None:
            first = self.first_action_step if self.pred_action_steps_only else 0
            action_pred = self.action_repr.decode(action_pred, obs, self.n_obs_steps, first)
        if self.pred_action_steps_only:
            return {"action": action_pred, "action_pred": action_pred}
        result: dict[str, Any] = self.executed_part(action_pred)
        features = trajectory[..., self.action_dim :]
        if features.shape[-1] and isinstance(self.obs_encoder, MultiImageObsEncoder):
            result["obs_pred"] = self.normalizer.unnormalize(self.obs_encoder.decode(features))
        return result

    def conditional_sample(
        self, condition: Condition, *, generator: Generators = None, noise: Tensor | None = None
    ) -> Tensor:
        """Sample a normalised trajectory (B, T, D) under `condition`."""
        if noise is None:
            noise = randn(condition.shape, generator, self.device, self.dtype)
        elif noise.shape != condition.shape:
            raise ValueError(f"noise must be a trajectory {condition.shape}, got {tuple(noise.shape)}")
        sample = self.sampler(self._denoise(condition), self.noise_schedule, noise, generator=generator)
        return condition.with_known_values(sample)

    def _denoise(self, condition: Condition) -> Denoise:
        """The denoiser as samplers want it: known values in place, the clean trajectory clipped."""
        predict = self._conditioned_model(condition)

        def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
            x = condition.with_known_values(x)
            clean, noise = self.noise_schedule.clean_and_noise(predict(x, t), x, t)
            return (clean.clamp(-1, 1) if self.clip_sample else clean), noise

        return denoise

    def _conditioned_model(self, condition: Condition) -> Callable[[Tensor, int], Tensor]:
        """The denoiser under `condition`; what does not change between its calls is computed once where it can be."""
        if _has_own_conditioned(self.model) and not torch.is_autocast_enabled(self.device.type):
            return cast(Any, self.model).conditioned(**condition.denoiser_kwargs)
        return partial(self.model, **condition.denoiser_kwargs)

    def _check_sampler(self) -> None:
        """Sample from nothing: a sampler that does not fit the schedule says so now, not at the first prediction."""
        feature_dim = cast(int, self.obs_encoder.feature_dim)
        dims = self.conditioning.denoiser_dims(self.action_dim, feature_dim, self.n_obs_steps)
        n_steps = self.n_action_steps if self.pred_action_steps_only else self.horizon
        noise = torch.zeros(1, n_steps, dims["input_dim"])
        self.sampler(lambda x, t: (x, x), self.noise_schedule, noise, generator=torch.Generator())

    def _check_committed(self, committed: Tensor, n_rows: int) -> None:
        fits = committed.ndim == 3 and committed.shape[::2] == (n_rows, self.action_dim)
        if not fits or committed.shape[1] > self.n_action_steps:
            raise ValueError(
                f"committed must have shape ({n_rows}, d, {self.action_dim}) with d at most n_action_steps="
                f"{self.n_action_steps}, got {tuple(committed.shape)}"
            )

    def encode(self, obs: Mapping[str, Tensor], generator: Generators = None) -> Tensor:
        """Features (B, steps, F) of observations `{key: (B, steps, ...)}` in the task's units.

        `generator` is that of crops which are random even when the policy acts.
        """
        normalized = self.normalizer.normalize({key: obs[key] for key in self.shape_meta["obs"]})
        if isinstance(self.obs_encoder, MultiImageObsEncoder):
            return self.obs_encoder(normalized, generator)
        return self.obs_encoder(normalized)

    def condition(self, features: Tensor) -> Condition:
        """What the denoiser is told, given `features` (B, steps, F) of the observations (see `encode`)."""
        n_steps = self.n_action_steps if self.pred_action_steps_only else self.horizon
        return self.conditioning.condition(features, n_steps, self.n_obs_steps, self.action_dim)

    def _checked_representation(
        self, action_repr: ActionRepresentation | None
    ) -> ActionRepresentation | None:
        """None for absolute actions: nothing is computed."""
        if isinstance(action_repr, Mapping):  # what has no _target_ stays a dictionary
            raise ValueError(
                f"task.action_repr is {dict(action_repr)}, without _target_ and parts: this task's YAML has no "
                "action_repr. Of robomimic's tasks those with poses have one, such as task=lift_lowdim_abs; for a "
                "task of your own see docs/guides/action-representations.md"
            )
        if action_repr is None or action_repr.kind == "absolute":
            return None
        action_repr.check(self.shape_meta)
        if self.first_action_step != self.n_obs_steps - 1:
            raise ValueError(
                f"action_repr.kind={action_repr.kind} needs first_action_step = n_obs_steps - 1 = "
                f"{self.n_obs_steps - 1}, got {self.first_action_step}: leave it out, or learn absolute actions"
            )
        return action_repr

    def written_actions(self, actions: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Absolute actions as the policy learns them, before normalisation: all steps, or only the executed ones.

        Args:
            actions: (B, T, Da).
            obs: `{key: (B, >=To, D)}`, those that `action_repr` reads.
        """
        if self.action_repr is not None:
            actions = self.action_repr.encode(actions, obs, self.n_obs_steps)
        if not self.pred_action_steps_only:
            return actions
        return actions[:, self.first_action_step : self.first_action_step + self.n_action_steps]


def _has_own_conditioned(model: nn.Module) -> bool:
    """Whether calling `model.conditioned` is the same as calling the model.

    Not where a user's denoiser lacks it, a subclass changes only `forward`, the model is compiled, or hooks watch it.
    """
    owner = next(kind for kind in type(model).__mro__ if "forward" in vars(kind))
    return "conditioned" in vars(owner) and not (model._forward_hooks or model._forward_pre_hooks)
