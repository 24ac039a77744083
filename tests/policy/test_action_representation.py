"""Tests for action_representation.py and action_parts.py: definitions by brute force, and policies that use them."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from diffusion_policy.common.checkpoint import CheckpointStore
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.model.common.normalizer import LinearNormalizer
from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule
from diffusion_policy.policy import consistency_distillation
from diffusion_policy.policy.action_parts import Absolute, Pose, Vector
from diffusion_policy.policy.action_representation import ActionRepresentation
from diffusion_policy.policy.consistency_distillation import ConsistencyDistillation
from diffusion_policy.policy.load_policy import load_policy
from tests.conftest import REPOSITORY
from tests.policy.tiny_policy import CONDITIONINGS, TA, TO, B, T, generators, tiny_policy

KINDS = ["absolute", "delta", "relative"]
every_kind = pytest.mark.parametrize("kind", KINDS)
written_kinds = pytest.mark.parametrize("kind", KINDS[1:])
POSE = Pose("hand_pos", "hand_quat")
PARTS = [POSE, Absolute(1), Vector("state", size=2, start=1), Pose("state", "state", "axis_angle", 3, 6)]
DA = 9 + 1 + 2 + 9
SHAPE_META: dict[str, Any] = {
    "obs": {
        "hand_pos": {"shape": [3]},
        "hand_quat": {"shape": [4], "type": "low_dim"},
        "state": {"shape": [9]},
        "image": {"shape": [3, 8, 8], "type": "rgb"},
        "keypoints": {"shape": [2, 2]},
    },
    "action": {"shape": [DA]},
}


def representation(kind: str, parts: Any = PARTS) -> ActionRepresentation:
    return ActionRepresentation(kind, parts)  # type: ignore[arg-type]


def six(rotation: Rotation) -> np.ndarray:
    matrix = rotation.as_matrix()
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


class Motion:
    """Random poses of two hands, a vector and a gripper: what is measured, and the targets."""

    def __init__(self, seed: int, n_rows: int = 2, n_obs_steps: int = TO) -> None:
        random = np.random.default_rng(seed)

        def rotations(n: int) -> Rotation:
            return Rotation.random(n_rows * n, rng=random)

        self.shape, self.obs_shape = (n_rows, T), (n_rows, n_obs_steps)
        self.targets = [(random.normal(size=(*self.shape, 3)), rotations(T)) for _ in range(2)]
        self.measured = [(random.normal(size=(*self.obs_shape, 3)), rotations(n_obs_steps)) for _ in range(2)]
        self.gripper = random.normal(size=(*self.shape, 1))
        self.vector = random.normal(size=(*self.shape, 2))
        self.measured_vector = random.normal(size=(*self.obs_shape, 3))

    @property
    def action(self) -> Tensor:
        (one, one_turn), (two, two_turn) = self.targets
        hands = [six(turn).reshape(*self.shape, 6) for turn in (one_turn, two_turn)]
        parts = [one, hands[0], self.gripper, self.vector, two, hands[1]]
        return torch.from_numpy(np.concatenate(parts, axis=-1))

    @property
    def obs(self) -> dict[str, Tensor]:
        (one, one_turn), (two, two_turn) = self.measured
        turn = two_turn.as_rotvec().reshape(*self.obs_shape, 3)
        arrays = {
            "hand_pos": one,
            "hand_quat": one_turn.as_quat().reshape(*self.obs_shape, 4),
            "state": np.concatenate([self.measured_vector, two, turn], axis=-1),
        }
        obs = {key: torch.from_numpy(values) for key, values in arrays.items()}
        return {**obs, "image": torch.zeros(*self.obs_shape, 3, 8, 8)}


def homogeneous(hand: tuple[np.ndarray, Rotation], shape: tuple[int, int]) -> np.ndarray:
    matrix = np.zeros((*shape, 4, 4))
    matrix[..., :3, :3] = hand[1].as_matrix().reshape(*shape, 3, 3)
    matrix[..., :3, 3], matrix[..., 3, 3] = hand[0], 1
    return matrix


def expected(motion: Motion, kind: str, row: int, t: int) -> np.ndarray:
    """One encoded step by its definition, with 4x4 matrices."""
    present = motion.obs_shape[1] - 1
    observed = min(t, present) if kind == "delta" else present
    after = kind == "delta" and t > present
    hands = []
    for target, measured in zip(motion.targets, motion.measured, strict=True):
        targets, poses = homogeneous(target, motion.shape), homogeneous(measured, motion.obs_shape)
        reference = targets[row, t - 1] if after else poses[row, observed]
        relative = np.linalg.inv(reference) @ targets[row, t]
        hands.append(np.concatenate([relative[:3, 3], relative[0, :3], relative[1, :3]]))
    reference = motion.vector[row, t - 1] if after else motion.measured_vector[row, observed, 1:]
    return np.concatenate([hands[0], motion.gripper[row, t], motion.vector[row, t] - reference, hands[1]])


@written_kinds
@pytest.mark.parametrize("n_obs_steps", [1, 2, 3])
def test_definition(kind: str, n_obs_steps: int) -> None:
    motion = Motion(0, n_obs_steps=n_obs_steps)
    encoded = representation(kind).encode(motion.action, motion.obs, n_obs_steps)
    for row in range(2):
        for t in range(T):
            np.testing.assert_allclose(encoded[row, t], expected(motion, kind, row, t), rtol=0, atol=1e-12)


@every_kind
@given(seed=st.integers(0, 10**6), n_obs_steps=st.integers(1, 4), n=st.integers(0, T), data=st.data())
def test_round_trip_of_any_part_of_the_window(
    kind: str, seed: int, n_obs_steps: int, n: int, data: Any
) -> None:
    motion, own = Motion(seed, n_obs_steps=n_obs_steps), representation(kind)
    first = data.draw(st.integers(0, n_obs_steps - 1))
    actions = motion.action[:, first : first + n]
    encoded = own.encode(actions, motion.obs, n_obs_steps, first)
    whole = own.encode(motion.action, motion.obs, n_obs_steps)
    assert torch.equal(encoded, whole[:, first : first + n])
    decoded = own.decode(encoded, motion.obs, n_obs_steps, first)
    torch.testing.assert_close(decoded, actions, rtol=0, atol=1e-11)


def test_absolute_is_nothing_at_all() -> None:
    action = torch.rand(B, T, DA)
    own = representation("absolute")
    assert own.encode(action, {}, TO) is action
    assert own.decode(action, {}, TO) is action


@written_kinds
def test_an_executed_action_depends_on_none_before_the_present_nor_after_itself(kind: str) -> None:
    motion, own = Motion(1), representation(kind)
    encoded = own.encode(motion.action, motion.obs, TO).requires_grad_()
    decoded = own.decode(encoded, motion.obs, TO)
    for t in range(T):
        (gradient,) = torch.autograd.grad(decoded[:, t].square().sum(), encoded, retain_graph=True)
        read = gradient.abs().amax(dim=(0, 2)) > 1e-9
        first = TO - 1 if kind == "delta" and t >= TO else t
        assert read.nonzero()[:, 0].tolist() == list(range(first, t + 1))


@written_kinds
def test_later_observations_are_not_read(kind: str) -> None:
    motion, own = Motion(2, n_obs_steps=4), representation(kind)
    changed = {key: values.clone() for key, values in motion.obs.items()}
    for values in changed.values():
        values[:, TO:] = torch.nan
    assert torch.equal(own.encode(motion.action, changed, TO), own.encode(motion.action, motion.obs, TO))


@written_kinds
def test_poses_are_seen_from_the_robot(kind: str) -> None:
    """Moving the world moves neither: a policy that is told no absolute pose acts alike everywhere."""
    motion = Motion(3)
    before = representation(kind).encode(motion.action, motion.obs, TO)
    turn, shift = Rotation.random(rng=np.random.default_rng(4)), np.array([1.0, -2.0, 3.0])
    for hands in (motion.targets, motion.measured):
        hands[:] = [(position @ turn.as_matrix().T + shift, turn * rotation) for position, rotation in hands]
    after = representation(kind).encode(motion.action, motion.obs, TO)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


@written_kinds
def test_a_turned_frame_of_measurement_is_made_good(kind: str) -> None:
    """As robosuite's `eef_quat` of a Panda, a quarter turn from the frame that is commanded."""
    quarter = [0.0, 0.0, -np.pi / 2]
    motion = Motion(5)
    turned = Pose("hand_pos", "hand_quat", rotation_offset=quarter)
    parts = [turned, *PARTS[1:]]
    before = representation(kind).encode(motion.action, motion.obs, TO)
    position, rotation = motion.measured[0]
    motion.measured[0] = (position, rotation * Rotation.from_rotvec(quarter).inv())
    after = representation(kind, parts).encode(motion.action, motion.obs, TO)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-7)  # the offset is float32


def test_rotations_are_read_as_they_are_written() -> None:
    motion = Motion(6)
    position, rotation = motion.measured[0]
    ways = {
        "quaternion_xyzw": rotation.as_quat(),
        "quaternion_wxyz": -rotation.as_quat()[:, [3, 0, 1, 2]],  # the other sign is the same rotation
        "axis_angle": rotation.as_rotvec(),
        "rotation_6d": six(rotation),
    }
    for rep, values in ways.items():
        obs = {
            "hand": torch.from_numpy(np.concatenate([position, values.reshape(*motion.obs_shape, -1)], -1))
        }
        pose = Pose("hand", "hand", rep, rotation_start=3)  # type: ignore[arg-type]
        measured = pose.measured(obs)
        wanted = np.concatenate([position, six(rotation).reshape(*motion.obs_shape, 6)], axis=-1)
        np.testing.assert_allclose(measured, wanted, rtol=0, atol=1e-12)


@written_kinds
def test_mixed_precision_does_not_reach_poses(kind: str) -> None:
    motion, own = Motion(7), representation(kind)
    action, obs = motion.action.float(), {key: values.float() for key, values in motion.obs.items()}
    plain = own.encode(action, obs, TO)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(own.encode(action, obs, TO), plain)
        torch.testing.assert_close(own.decode(plain, obs, TO), action, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "parts", "message"),
    [
        ("velocity", PARTS, "kind must be one of absolute, delta, relative; got 'velocity'"),
        ("relative", [], "parts must name what the action is made of"),
        ("relative", PARTS[:3], r"parts have 12 dimensions \(Pose 9, Absolute 1, Vector 2\).* the action 21"),
        ("delta", [*PARTS[:2], Vector("nowhere", 11)], "'nowhere' is no low-dim observation"),
        ("delta", [*PARTS[:2], Vector("image", 11)], r"'image' is no .*has \['hand_pos', 'hand_quat', 'state'\]"),
        ("delta", [*PARTS[:2], Vector("keypoints", 11)], "'keypoints' is no low-dim"),
        ("delta", [*PARTS[:2], Vector("state", 11)], r"Vector reads state\[0:11\].*'state' 9 dimensions"),
        ("delta", [*PARTS[:2], Vector("state", 2, -1), PARTS[3]], r"reads state\[-1:1\]"),
        ("delta", [*PARTS[:2], Vector("state", 0), Vector("state", 11)], "size of a part must be at least 1"),
        ("relative", [Absolute(DA)], "all parts stay absolute; set action_repr.kind=absolute"),
        ("delta", [POSE, POSE, Pose("hand_pos", "hand_pos"), *PARTS], "parts have"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_task_is_refused(kind: str, parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        representation(kind, parts).check(SHAPE_META)


def test_bad_poses_are_refused() -> None:
    with pytest.raises(ValueError, match="rotation_rep must be one of quaternion_xyzw, .*got 'quaternion'"):
        Pose("p", "q", "quaternion")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rotation_offset must be 3 numbers"):
        Pose("p", "q", rotation_offset=[1, 0, 0, 0])


# Policies

META: dict[str, Any] = {
    "obs": {"pos": {"shape": [3]}, "quat": {"shape": [4]}, "grip": {"shape": [2]}},
    "action": {"shape": [12]},
}
REPRESENTATION: dict[str, Any] = {
    "_target_": "diffusion_policy.policy.action_representation.ActionRepresentation",
    "kind": "relative",
    "parts": [
        {
            "_target_": "diffusion_policy.policy.action_parts.Pose",
            "position_key": "pos",
            "rotation_key": "quat",
            "rotation_rep": "quaternion_xyzw",
        },
        {"_target_": "diffusion_policy.policy.action_parts.Vector", "key": "grip", "size": 2},
        {"_target_": "diffusion_policy.policy.action_parts.Absolute", "size": 1},
    ],
}


def configured(kind: str) -> ActionRepresentation:
    return instantiate({**REPRESENTATION, "kind": kind})


def demonstrations(n_episodes: int = 3, length: int = 12, seed: int = 0, **options: Any) -> SequenceDataset:
    """Random walks of a hand, whose targets lead it."""
    random = np.random.default_rng(seed)
    buffer = ReplayBuffer.create_empty_numpy()
    for _ in range(n_episodes):
        position = np.cumsum(random.normal(0, 0.1, (length, 3)), axis=0)
        turns = [Rotation.random(rng=random)]
        for step in random.normal(0, 0.2, (length - 1, 3)):
            turns.append(turns[-1] * Rotation.from_rotvec(step))
        rotation = Rotation.concatenate(turns)
        grip = random.normal(size=(length, 2))
        lead = Rotation.from_rotvec(random.normal(0, 0.1, (length, 3)))
        target = [position + 0.1, six(rotation * lead), grip + random.normal(0, 0.1, (length, 2))]
        action = np.concatenate([*target, random.choice([-1.0, 1.0], (length, 1))], axis=1)
        arrays = {"pos": position, "quat": rotation.as_quat(), "grip": grip, "action": action}
        buffer.add_episode({key: values.astype(np.float32) for key, values in arrays.items()})
    return SequenceDataset(buffer, META, horizon=T, n_obs_steps=TO, n_action_steps=TA, **options)


def hand_policy(kind: str | None, conditioning: str = "global", **kwargs: Any) -> Any:
    own = None if kind is None else configured(kind)
    policy = tiny_policy(conditioning, shape_meta=META, action_repr=own, **kwargs)
    policy.normalizer = LinearNormalizer()
    policy.fit(demonstrations())
    return policy


@every_kind
@pytest.mark.parametrize("executed_only", [False, True])
def test_normaliser_is_that_of_all_training_windows(kind: str, executed_only: bool) -> None:
    dataset = demonstrations(n_episodes=4, val_ratio=0.25)
    policy = hand_policy(kind, pred_action_steps_only=executed_only, n_action_steps=4)
    policy.fit(dataset)
    windows = dataset.batch(np.arange(len(dataset)), TO)
    encoded = configured(kind).encode(windows["action"], windows["obs"], TO)
    if executed_only:
        encoded = encoded[:, TO - 1 : TO - 1 + 4]
    rows = encoded.reshape(-1, 12).double()
    field = policy.normalizer["action"]
    if kind == "absolute":
        reference = dataset.get_normalizer().state_dict()
        assert all(
            torch.equal(reference[name], value) for name, value in policy.normalizer.state_dict().items()
        )
        return
    torch.testing.assert_close(field.input_min.double(), rows.amin(0), rtol=0, atol=1e-7)
    torch.testing.assert_close(field.input_max.double(), rows.amax(0), rtol=0, atol=1e-7)
    torch.testing.assert_close(field.input_mean.double(), rows.mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(field.input_std.double(), rows.std(0), rtol=1e-5, atol=1e-6)
    normalized = field.normalize(encoded).reshape(-1, 12)
    varies = rows.amax(0) - rows.amin(0) > 1e-4
    torch.testing.assert_close(normalized.amax(0)[varies], torch.ones(int(varies.sum())))
    torch.testing.assert_close(normalized.amin(0)[varies], -torch.ones(int(varies.sum())))
    for key in META["obs"]:
        assert torch.equal(policy.normalizer[key].scale, dataset.get_normalizer()[key].scale)


def test_normaliser_of_blocks_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hand_policy("delta").normalizer.state_dict()
    monkeypatch.setattr("diffusion_policy.dataset.sequence_dataset.WINDOWS_AT_ONCE", 7)
    for name, value in hand_policy("delta").normalizer.state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=1e-6, atol=1e-6)


def batch_of(policy: Any, n_rows: int = B) -> dict[str, Any]:
    return demonstrations().batch(np.arange(n_rows), policy.n_train_obs_steps)


class Remembers(torch.nn.Module):
    """Predicts what it was last given to predict: the clean trajectory of the training batch."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.trajectory: Any = None

    def forward(self, sample: Tensor, timestep: Any, **_: Any) -> Tensor:
        return torch.zeros_like(sample) if self.trajectory is None else self.trajectory


@every_kind
@pytest.mark.parametrize("executed_only", [False, True])
@pytest.mark.parametrize("conditioning", ["global", "inpaint"])
def test_what_is_learned_is_what_is_executed(
    kind: str, conditioning: str, executed_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that predicts its training target makes the policy repeat the demonstrated, absolute actions."""
    if executed_only and conditioning == "inpaint":
        return
    sizes = {"pred_action_steps_only": executed_only, "n_action_steps": 4 if executed_only else TA}
    policy = hand_policy(kind, conditioning, prediction_type="regression", model=Remembers, **sizes)
    batch = batch_of(policy)
    seen = []
    target = policy.noise_schedule.target
    monkeypatch.setattr(policy.noise_schedule, "target", lambda *a: seen.append(target(*a)) or seen[-1])
    with torch.no_grad():
        policy.compute_loss(batch)
    policy.model.trajectory = seen[0]
    result = policy.predict_action({key: values[:, :TO] for key, values in batch["obs"].items()})
    wanted = batch["action"]
    if executed_only:
        wanted = wanted[:, TO - 1 : TO - 1 + 4]
    torch.testing.assert_close(result["action_pred"], wanted, rtol=0, atol=2e-5)
    assert torch.equal(result["action"], policy.executed_part(result["action_pred"])["action"] if not executed_only
                       else result["action_pred"])  # fmt: skip


@every_kind
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_committed_actions_are_absolute(kind: str, conditioning: str) -> None:
    policy = hand_policy(kind, conditioning)
    batch = batch_of(policy)
    obs = {key: values[:, :TO] for key, values in batch["obs"].items()}
    for n_committed in (0, 1, TA):
        committed = batch["action"][:, TO - 1 : TO - 1 + n_committed]
        action = policy.predict_action(obs, committed=committed)["action"]
        torch.testing.assert_close(action[:, :n_committed], committed, rtol=0, atol=2e-5)


def test_absolute_is_bit_identical_to_none() -> None:
    losses, actions = [], []
    for kind in (None, "absolute"):
        policy = hand_policy(kind)
        batch = batch_of(policy)
        torch.manual_seed(0)
        losses.append(policy.compute_loss(batch)[0])
        actions.append(policy.predict_action(batch["obs"], generator=generators(1)[0])["action_pred"])
    assert torch.equal(*losses)
    assert torch.equal(*actions)


@written_kinds
def test_cached_features_learn_the_same(kind: str) -> None:
    policy = hand_policy(kind)
    batch = batch_of(policy)
    with_features = {**batch, "features": policy.encode(batch["obs"])}
    losses = []
    for each in (batch, with_features):
        torch.manual_seed(0)
        losses.append(policy.compute_loss(each)[0])
    assert torch.equal(*losses)
    dataset = demonstrations()
    dataset.cache_features(policy.encode)
    cached = next(iter(dataset.batches([np.arange(B)], policy.n_train_obs_steps)))
    torch.manual_seed(0)
    torch.testing.assert_close(policy.compute_loss(cached)[0], losses[0])


def error_from_far_away(kind: str) -> float:
    """Largest error of the actions, of a policy that saw motions by the same steps from other starts."""
    step = torch.tensor([2.0, 1.0])
    buffer = ReplayBuffer.create_empty_numpy()
    for start in np.random.default_rng(0).uniform(-10, 10, (8, 2)):
        walk = (start + np.arange(T)[:, None] * step.numpy()).astype(np.float32)
        buffer.add_episode({"pos": walk, "action": walk + step.numpy()})
    meta = {"obs": {"pos": {"shape": [2]}}, "action": {"shape": [2]}}
    dataset = SequenceDataset(buffer, meta, T, n_obs_steps=1, n_action_steps=1)
    own = representation(kind, [Vector("pos", 2)])
    sizes = {"shape_meta": meta, "n_obs_steps": 1, "n_action_steps": 4}
    policy = tiny_policy(prediction_type="regression", action_repr=own, **sizes).train()
    policy.normalizer = LinearNormalizer()
    policy.fit(dataset)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(100):
        policy.compute_loss(dataset.batch(np.arange(len(dataset)), 1))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    far = torch.tensor([[[100.0, -100.0]]])
    action = policy.eval().predict_action({"pos": far})["action"]
    return float((action - far - step * torch.arange(1, 5)[:, None]).abs().max())


def test_a_constant_way_of_moving_is_learned_wherever_it_begins() -> None:
    """100 away from all demonstrations, which reach from -10 to 26 and move by 8 in a chunk."""
    assert error_from_far_away("delta") < 2
    assert error_from_far_away("relative") < 8
    assert error_from_far_away("absolute") > 70


@written_kinds
def test_a_checkpoint_keeps_the_representation(tmp_path: Path, kind: str) -> None:
    package = "diffusion_policy."
    config = {
        "_target_": package + "policy.diffusion_policy.DiffusionPolicy",
        "shape_meta": META,
        "horizon": T,
        "n_obs_steps": TO,
        "n_action_steps": TA,
        "model": {
            "_target_": package + "model.diffusion.conditional_unet1d.ConditionalUnet1D",
            "_partial_": True,
            "down_dims": [8, 16],
            "diffusion_step_embed_dim": 8,
        },
        "conditioning": {"_target_": package + "policy.conditioning.GlobalConditioning"},
        "noise_schedule": {
            "_target_": package + "model.diffusion.noise_schedule.NoiseSchedule",
            "num_train_timesteps": 10,
        },
        "sampler": {
            "_target_": package + "model.diffusion.samplers.sample_ddim",
            "_partial_": True,
            "steps": 5,
        },
        "action_repr": {**REPRESENTATION, "kind": kind},
    }
    policy = instantiate(config)
    policy.fit(demonstrations())
    store = CheckpointStore(tmp_path / "checkpoints", "score")
    store.save(0, {"policy": config}, policy.state_dict(), {"score": 0.5}, {})
    loaded = load_policy(tmp_path, "cpu")
    obs = batch_of(policy)["obs"]
    ours, theirs = (
        each.eval().predict_action(obs, generator=generators(1)[0])["action"] for each in (policy, loaded)
    )
    assert torch.equal(ours, theirs)
    other = load_policy(tmp_path, "cpu", overrides=["policy.action_repr.kind=absolute"])
    assert not torch.allclose(
        other.predict_action(obs, generator=generators(1)[0])["action"], ours, atol=0.01
    )


def test_a_teacher_of_another_representation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = hand_policy("relative")
    monkeypatch.setattr(consistency_distillation, "load_policy", lambda *_, **__: teacher)

    def student(own: ActionRepresentation | None) -> Any:
        schedule = NoiseSchedule(10, prediction_type="sample")
        arguments = {"sampler": "consistency", "noise_schedule": schedule, "action_repr": own}
        policy = tiny_policy(shape_meta=META, distillation=ConsistencyDistillation("teacher", 5), **arguments)
        policy.normalizer = LinearNormalizer()
        return policy

    for own in (None, configured("absolute"), configured("delta")):
        with pytest.raises(
            ValueError, match=r"teacher has the actions .*'relative'.*train with the teacher's"
        ):
            student(own).fit(demonstrations())
    same = student(copy.deepcopy(teacher.action_repr))
    same.fit(demonstrations())
    assert torch.equal(same.normalizer["action"].scale, teacher.normalizer["action"].scale)
    loss, _ = same.compute_loss(batch_of(same))
    assert loss.isfinite()


def test_policies_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="parts have 2 dimensions"):
        tiny_policy(shape_meta=META, action_repr=representation("relative", [Vector("grip", 2)]))
    with pytest.raises(ValueError, match=r"first_action_step = n_obs_steps - 1 = 1, got 2"):
        tiny_policy(shape_meta=META, action_repr=configured("delta"), first_action_step=2)
    with pytest.raises(ValueError, match="action_repr is {'kind': 'relative'}, without _target_ and parts"):
        tiny_policy(shape_meta=META, action_repr={"kind": "relative"})
    with pytest.raises(ValueError, match="unexpected keyword argument 'sizes'"):
        instantiate({**REPRESENTATION, "parts": [{**REPRESENTATION["parts"][1], "sizes": 3}]})


def test_damaged_rotations_are_found_when_the_normaliser_is_fitted() -> None:
    dataset = demonstrations()
    dataset._tensors["quat"][5] = 0
    with pytest.raises(ValueError, match="not finite"):
        tiny_policy(shape_meta=META, action_repr=configured("relative")).fit(dataset)


def test_every_policy_that_learns_takes_it_from_the_task() -> None:
    """The controls give back recorded actions; any other would learn absolute ones without a word."""
    files = sorted((REPOSITORY / "diffusion_policy/config/policy").glob("*.yaml"))
    learning = {path: text for path in files if ".control_policies." not in (text := path.read_text())}
    assert len(files) > len(learning) > 4
    for path, text in learning.items():
        assert "action_repr: ${oc.select:task.action_repr,null}" in text, path.name
