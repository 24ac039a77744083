"""Tests for diffusion_policy.py."""

import copy
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from diffusion_policy.model.diffusion.adaln_transformer import AdaLNTransformer
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from tests.policy.tiny_policy import (
    CONDITIONINGS,
    DA,
    NETWORK,
    PREDICTION_TYPES,
    SAMPLERS,
    SHAPE_META,
    TA,
    TO,
    TRANSFORMER,
    B,
    T,
    generators,
    observations,
    tiny_policy,
    training_batch,
)

KINDS = [
    pytest.param(conditioning, prediction_type, sampler, id=f"{conditioning}-{prediction_type}-{sampler}")
    for conditioning in CONDITIONINGS
    for prediction_type in PREDICTION_TYPES
    for sampler in SAMPLERS
] + [pytest.param(name, "regression", "ddim", id=f"{name}-regression") for name in CONDITIONINGS]
every_kind = pytest.mark.parametrize(("conditioning", "prediction_type", "sampler"), KINDS)
every_conditioning = pytest.mark.parametrize("conditioning", CONDITIONINGS)
PIXEL = 1e-5 * 200  # 1e-5 in normalised units, of which one is 200 pixels


@pytest.fixture
def double_precision():
    """The embedding of the diffusion step has torch's default type, whatever the network's is."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_close(ours: Tensor, others: Tensor) -> None:
    torch.testing.assert_close(ours, others, rtol=0, atol=PIXEL)


# Acting


@every_kind
def test_actions_have_their_shapes_and_are_the_executed_part(conditioning, prediction_type, sampler):
    result = tiny_policy(conditioning, prediction_type, sampler).predict_action(observations())
    assert result["action_pred"].shape == (B, T, DA)
    assert torch.equal(result["action"], result["action_pred"][:, TO - 1 : TO - 1 + TA])
    assert result["action_pred"].isfinite().all()
    assert ("obs_pred" in result) == (conditioning == "inpaint")


@every_kind
def test_one_generator_makes_actions_repeatable(conditioning, prediction_type, sampler):
    policy = tiny_policy(conditioning, prediction_type, sampler)
    first, again, other = (
        policy.predict_action(observations(), generator=generators(seed)[0])["action_pred"]
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (prediction_type == "regression")


@every_conditioning
def test_a_row_with_its_own_generator_does_not_see_who_shares_the_batch(conditioning):
    """In float32 kernels round by batch size, which these untrained networks amplify: up to 2.2e-5 seen."""
    policy = tiny_policy(conditioning, sampler="ddpm")
    obs = observations()
    together = policy.predict_action(obs, generator=generators(*range(B)))["action_pred"]
    for row in range(B):
        alone = policy.predict_action(
            {key: value[row : row + 1] for key, value in obs.items()}, generator=generators(row)
        )["action_pred"]
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=5 * PIXEL)


@every_kind
def test_rows_are_independent_up_to_rounding(conditioning, prediction_type, sampler, double_precision):
    """The same in float64, where rounding cannot hide a dependence: measured up to 5.4e-13."""
    policy = tiny_policy(conditioning, prediction_type, sampler)
    features = policy.encode(observations()).double()
    policy.double()

    def sample(rows: slice) -> Tensor:
        seeds = list(range(B))[rows]
        return policy.conditional_sample(policy.condition(features[rows]), generator=generators(*seeds))

    together = sample(slice(0, B))
    for row in range(B):
        one = slice(row, row + 1)
        torch.testing.assert_close(together[one], sample(one), rtol=0, atol=1e-9)


@every_conditioning
def test_global_seed_is_the_source_without_a_generator(conditioning):
    policy = tiny_policy(conditioning, sampler="ddpm")
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(policy.predict_action(observations())["action_pred"])
    assert torch.equal(*results)


@every_conditioning
def test_given_noise_replaces_the_draw(conditioning):
    policy = tiny_policy(conditioning)
    dim = DA + 7 if conditioning == "inpaint" else DA
    drawn = torch.randn(B, T, dim, generator=generators(7)[0])
    expected = policy.predict_action(observations(), generator=generators(7)[0])["action_pred"]
    assert torch.equal(policy.predict_action(observations(), noise=drawn)["action_pred"], expected)
    other = policy.predict_action(observations(), noise=drawn + 1)["action_pred"]
    assert not torch.equal(other, expected)


def test_noise_of_another_shape_is_refused_with_the_right_one():
    with pytest.raises(ValueError, match=r"noise must be a trajectory \(4, 8, 2\), got \(4, 3, 2\)"):
        tiny_policy().predict_action(observations(), noise=torch.zeros(B, TA, DA))


def test_a_list_of_generators_must_have_one_per_row():
    with pytest.raises(ValueError, match="one per row: got 3 for 4 rows"):
        tiny_policy().predict_action(observations(), generator=generators(1, 2, 3))


@every_kind
def test_committed_actions_come_out_unchanged(conditioning, prediction_type, sampler):
    policy = tiny_policy(conditioning, prediction_type, sampler)
    noise = {"generator": generators(1)[0]}
    free = policy.predict_action(observations(), **noise)["action"]
    committed = torch.tensor([[100.0, 500.0], [333.0, 101.0]]).expand(B, 2, DA)
    result = policy.predict_action(observations(), generator=generators(1)[0], committed=committed)
    assert_close(result["action"][:, :2], committed)
    assert_close(result["action_pred"][:, TO - 1 : TO + 1], committed)
    all_clipped = (
        (free[:, 2:] - 300).abs() > 199.9
    ).all()  # an untrained network's, at either end of the range
    if not all_clipped and (prediction_type != "regression" or conditioning not in ("global", "tokens")):
        assert not torch.equal(result["action"][:, 2:], free[:, 2:])  # the rest continues them


def test_committed_actions_outside_the_recorded_range_are_not_clipped():
    committed = torch.full((B, 1, DA), 620.0)
    result = tiny_policy().predict_action(observations(), committed=committed)
    assert_close(result["action"][:, :1], committed)


def test_no_committed_actions_are_as_none():
    policy = tiny_policy()
    free, empty = (
        policy.predict_action(observations(), generator=generators(1)[0], committed=committed)["action"]
        for committed in (None, torch.zeros(B, 0, DA))
    )
    assert torch.equal(free, empty)


@every_conditioning
def test_only_the_first_observation_steps_are_used(conditioning):
    policy = tiny_policy(conditioning)
    longer = {
        key: torch.cat([value, torch.zeros_like(value)], dim=1) for key, value in observations().items()
    }
    first, second = (
        policy.predict_action(obs, generator=generators(1)[0])["action_pred"]
        for obs in (observations(), longer)
    )
    assert torch.equal(first, second)


def test_inpainting_gives_back_the_observations_it_was_given():
    obs = observations()
    result = tiny_policy("inpaint").predict_action(obs)
    assert list(result["obs_pred"]) == list(SHAPE_META["obs"])
    for key, value in obs.items():
        assert result["obs_pred"][key].shape == (B, T, *value.shape[2:])
        assert_close(result["obs_pred"][key][:, :TO], value)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_actions_stay_in_the_recorded_range_when_clipped(sampler):
    result = tiny_policy(sampler=sampler).predict_action(observations())["action_pred"]
    # No noise is left after the last step: the sample is the clipped clean trajectory.
    assert result.min() > 100 - PIXEL
    assert result.max() < 500 + PIXEL
    unclipped = tiny_policy(sampler=sampler, clip_sample=False).predict_action(observations())["action_pred"]
    assert unclipped.max() > 500


@pytest.mark.parametrize(
    ("conditioning", "kwargs"), [("global", {}), ("tokens", {"model": partial(TRANSFORMER, horizon=4)})]
)
def test_predicts_only_the_executed_steps_when_asked(conditioning, kwargs):
    policy = tiny_policy(conditioning, pred_action_steps_only=True, n_action_steps=4, **kwargs)
    result = policy.predict_action(observations(), committed=torch.full((B, 1, DA), 200.0))
    assert result["action"].shape == (B, 4, DA)
    assert torch.equal(result["action"], result["action_pred"])
    assert_close(result["action"][:, :1], torch.full((B, 1, DA), 200.0))


@pytest.mark.parametrize("conditioning", ["local", "inpaint"])
def test_predicting_only_executed_steps_needs_global_conditioning(conditioning):
    with pytest.raises(ValueError, match="pred_action_steps_only needs GlobalConditioning or Token.*, got "):
        tiny_policy(conditioning, pred_action_steps_only=True, n_action_steps=4)


def test_a_causal_transformer_that_is_too_long_for_the_executed_steps_is_told_its_horizon():
    policy = tiny_policy("tokens", pred_action_steps_only=True, n_action_steps=4)
    with pytest.raises(ValueError, match=r"horizon=8.*set model\.horizon=4"):
        policy.predict_action(observations())


ADALN = partial(AdaLNTransformer, horizon=T, n_layer=1, n_head=2, n_emb=8)


@pytest.mark.parametrize(
    ("model", "conditioning"), [(TRANSFORMER, "inpaint"), (ADALN, "inpaint"), (ADALN, "global")]
)
def test_other_denoisers_fit_other_conditionings(model, conditioning):
    policy = tiny_policy(conditioning, model=model)
    result = policy.predict_action(observations())
    assert result["action_pred"].isfinite().all()
    assert ("obs_pred" in result) == (conditioning == "inpaint")
    assert policy.compute_loss(training_batch(policy))[0].isfinite()


@pytest.mark.parametrize(
    ("model", "conditioning", "message"),
    [
        (NETWORK, "tokens", "ConditionalUnet1D does not fit TokenConditioning: .*cond_dim.*from Global"),
        (
            TRANSFORMER,
            "global",
            "TransformerForDiffusion does not fit GlobalCond.*from TokenConditioning, Inp",
        ),
        (TRANSFORMER, "local", "TransformerForDiffusion does not fit LocalConditioning"),
        (nn.Linear, "global", "Linear does not fit GlobalConditioning.*compare model with what it takes"),
        (
            ADALN,
            "tokens",
            "AdaLNTransformer does not fit TokenConditioning.*from GlobalConditioning, Inpaint",
        ),
    ],
)
def test_a_denoiser_that_does_not_fit_the_conditioning_is_named_with_what_does(model, conditioning, message):
    with pytest.raises(ValueError, match=message):
        tiny_policy(conditioning, model=model)


def test_first_action_step_moves_the_executed_part():
    policy = tiny_policy(first_action_step=TO)
    result = policy.predict_action(observations(), committed=torch.full((B, 1, DA), 200.0))
    assert torch.equal(result["action"], result["action_pred"][:, TO : TO + TA])
    assert_close(result["action"][:, :1], torch.full((B, 1, DA), 200.0))


def test_executed_steps_must_lie_within_the_horizon():
    with pytest.raises(ValueError, match="horizon=8 is too short.* = 9"):
        tiny_policy(first_action_step=T - TA + 1)


def test_survives_copying_and_pickling():
    policy = tiny_policy("inpaint")
    expected = policy.predict_action(observations(), generator=generators(1)[0])["action_pred"]
    for twin in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        result = twin.predict_action(observations(), generator=generators(1)[0])["action_pred"]
        assert torch.equal(result, expected)


# What is wrong with an observation


def broken(key: str, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    obs = observations()
    return {**obs, key: change(obs[key])}


def spoilt(value: float, step: int) -> Callable[[Tensor], Tensor]:
    def spoil(values: Tensor) -> Tensor:
        values = values.clone()
        values[1, step].flatten()[0] = value
        return values

    return spoil


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("pose", lambda v: v[:, :1], r"obs\['pose'\] must have shape \(B, >=2 steps, 3\), got \(4, 1, 3\)"),
        ("pose", lambda v: v[..., :2], r"obs\['pose'\] must have shape .*got \(4, 2, 2\)"),
        ("pose", lambda v: v[:, 0], r"obs\['pose'\] must have shape .*got \(4, 3\)"),
        ("keypoints", lambda v: v.flatten(2), r"obs\['keypoints'\].*>=2 steps, 2, 2\), got \(4, 2, 4\)"),
        ("keypoints", lambda v: v[:3], r"obs\['keypoints'\] has 3 rows, but 'pose' has 4"),
        ("pose", spoilt(float("nan"), 1), r"obs\['pose'\] holds NaN or infinity"),
        ("keypoints", spoilt(float("inf"), 0), r"obs\['keypoints'\] holds NaN or infinity"),
        ("keypoints", spoilt(-float("inf"), 0), r"obs\['keypoints'\] holds NaN or infinity"),
    ],
)
@every_conditioning
def test_a_bad_observation_is_named(conditioning, key, change, message):
    with pytest.raises(ValueError, match=message):
        tiny_policy(conditioning).predict_action(broken(key, change))


def test_a_missing_observation_is_named_with_those_given():
    obs = observations()
    del obs["keypoints"]
    with pytest.raises(
        ValueError, match=r"obs has no 'keypoints': got \['pose'\], needs \['pose', 'keypoints'\]"
    ):
        tiny_policy().predict_action(obs)


def test_what_the_policy_does_not_read_may_be_anything():
    policy = tiny_policy()
    obs = observations(n_steps=TO + 1)
    expected = policy.predict_action(obs, generator=generators(1)[0])["action"]
    obs["pose"][:, TO:] = torch.nan
    obs["other"] = torch.full((1,), torch.nan)
    assert torch.equal(policy.predict_action(obs, generator=generators(1)[0])["action"], expected)


@pytest.mark.parametrize("shape", [(B, TA + 1, DA), (1, 1, DA), (B, 1, DA + 1), (B, DA), (B,), (B, 1, DA, 1)])
def test_committed_actions_of_another_shape_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"committed must have shape \(4, d, 2\) with d at most n_action_steps=3"
    ):
        tiny_policy().predict_action(observations(), committed=torch.zeros(shape))


# Learning


@every_kind
def test_loss_is_finite_and_reaches_every_trainable_weight(conditioning, prediction_type, sampler):
    policy = tiny_policy(conditioning, prediction_type, sampler).train()
    loss, metrics = policy(training_batch(policy))
    loss.backward()
    assert loss.isfinite()
    assert torch.equal(metrics["loss"], loss)
    assert not metrics["loss"].requires_grad
    zero = [name for name, p in policy.named_parameters() if p.grad is None or not p.grad.any()]
    if prediction_type == "regression" and conditioning != "inpaint":
        reads_trajectory = ("down_modules.0.0", "input_emb.weight")  # which is always zero
        zero = [name for name in zero if not any(part in name for part in reads_trajectory)]
    assert not zero


class Constant(nn.Module):
    """A denoiser that predicts a parameter and keeps what it was given."""

    def __init__(self, input_dim: int, **dims: int):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(B, T, input_dim))

    def forward(self, sample: Tensor, timestep: Tensor, **conditions: Tensor) -> Tensor:
        self.sample, self.timestep = sample, timestep
        return self.value


@every_conditioning
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_loss_is_its_formula(conditioning, prediction_type):
    """Noise is drawn first, then the diffusion steps; given entries are clean and count as zeros."""
    policy = tiny_policy(conditioning, prediction_type, model=Constant)
    batch = training_batch(policy)
    torch.manual_seed(11)
    loss, _ = policy.compute_loss(batch)

    clean = policy.normalizer["action"].normalize(batch["action"])
    n_known = 0
    if conditioning == "inpaint":
        normalized = policy.normalizer.normalize(batch["obs"])
        clean = torch.cat([clean, *(normalized[key].flatten(2) for key in SHAPE_META["obs"])], dim=-1)
        n_known = TO
    torch.manual_seed(11)
    noise, timestep = torch.randn(clean.shape), torch.randint(0, 10, (B,))
    assert torch.equal(policy.model.timestep, timestep)
    total = 0.0
    for row, t in enumerate(timestep.tolist()):
        alpha_bar = float(policy.noise_schedule.alphas_cumprod[t])
        alpha, sigma = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        noisy = alpha * clean[row] + sigma * noise[row]
        noisy[:n_known, DA:] = clean[row, :n_known, DA:]
        torch.testing.assert_close(policy.model.sample[row], noisy, rtol=0, atol=1e-5)
        target = {
            "epsilon": noise[row],
            "sample": clean[row],
            "v_prediction": alpha * noise[row] - sigma * clean[row],
        }[prediction_type]
        error = target.clone()
        error[:n_known, DA:] = 0
        total += error.square().sum().item()
    assert loss.item() == pytest.approx(total / clean.numel(), rel=1e-5)


@every_conditioning
def test_loss_ignores_exactly_what_is_given(conditioning):
    policy = tiny_policy(conditioning, model=Constant)
    policy.compute_loss(training_batch(policy))[0].backward()
    gradient = policy.model.value.grad
    given = torch.zeros_like(gradient, dtype=torch.bool)
    if conditioning == "inpaint":
        given[:, :TO, DA:] = True
    assert torch.equal(gradient == 0, given)


class LinearEncoder(nn.Module):
    """A trainable encoder of the key `pose`."""

    feature_dim = 5

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        return self.linear(obs["pose"])


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_loss_does_not_teach_an_encoder_to_be_easy_to_predict(prediction_type):
    """With a denoiser that looks at nothing the features are only targets: they must get no gradient."""
    policy = tiny_policy("inpaint", prediction_type, model=Constant, obs_encoder=LinearEncoder())
    policy.compute_loss(training_batch(policy))[0].backward()
    assert policy.obs_encoder.linear.weight.grad is None


@every_conditioning
def test_loss_teaches_an_encoder_through_the_condition(conditioning):
    policy = tiny_policy(conditioning, obs_encoder=LinearEncoder())
    policy.compute_loss(training_batch(policy))[0].backward()
    assert policy.obs_encoder.linear.weight.grad.any()


def test_loss_of_executed_steps_only_looks_at_no_other():
    policy = tiny_policy(pred_action_steps_only=True, n_action_steps=4)
    batch = training_batch(policy)
    changed = {**batch, "action": batch["action"].clone()}
    changed["action"][:, : TO - 1] = 0
    changed["action"][:, TO - 1 + 4 :] = 0
    losses = []
    for each in (batch, changed):
        torch.manual_seed(0)
        losses.append(policy.compute_loss(each)[0])
    assert torch.equal(*losses)


@every_conditioning
def test_loss_needs_the_observation_steps_that_the_policy_says(conditioning):
    policy = tiny_policy(conditioning)
    assert policy.n_train_obs_steps == (T if conditioning == "inpaint" else TO)


def test_loss_falls_to_a_fraction_on_one_draw_of_noise():
    """With the same noise and diffusion steps every time there is something to learn by heart."""
    policy: DiffusionPolicy = tiny_policy().train()
    batch = training_batch(policy)
    optimizer = torch.optim.Adam(policy.param_groups(), lr=1e-2)
    losses = []
    for _ in range(100):
        torch.manual_seed(0)
        loss, _ = policy.compute_loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


class Scaled(NETWORK.func):  # type: ignore[name-defined, misc]
    """A user's denoiser that changes `forward` and nothing else."""

    def forward(self, *args, **kwargs):
        return 0.1 * super().forward(*args, **kwargs)


def test_a_users_forward_is_what_is_sampled_from():
    policy = tiny_policy(model=partial(Scaled, **NETWORK.keywords))
    plain = tiny_policy()
    plain.load_state_dict(policy.state_dict())
    noise = torch.randn(B, T, DA, generator=generators(1)[0])
    ours, theirs = (p.predict_action(observations(), noise=noise)["action"] for p in (policy, plain))
    assert not torch.allclose(ours, theirs)


def test_hooks_of_the_denoiser_see_every_step():
    policy = tiny_policy()
    seen = []
    policy.model.register_forward_hook(lambda *_: seen.append(1))
    policy.predict_action(observations())
    assert len(seen) == 5
