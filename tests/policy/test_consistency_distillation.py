"""Tests for consistency_distillation.py: the target by hand, and a student that needs one call."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D
from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule, RectifiedFlow
from diffusion_policy.model.diffusion.samplers import sample_consistency, sample_ddim
from diffusion_policy.policy import consistency_distillation
from diffusion_policy.policy.consistency_distillation import ConsistencyDistillation
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from tests.policy.tiny_policy import generators, observations, tiny_policy, training_batch

N = 10  # diffusion steps of tiny policies


def student_of(
    monkeypatch: pytest.MonkeyPatch, teacher: Any, steps: int = 5, conditioning: str = "global", **kwargs: Any
) -> DiffusionPolicy:
    """A student whose teacher is read from memory."""
    monkeypatch.setattr(consistency_distillation, "load_policy", lambda path, device, **_: teacher)
    kwargs = {"noise_schedule": NoiseSchedule(N, prediction_type="sample")} | kwargs
    distillation = ConsistencyDistillation("teacher", steps)
    return tiny_policy(conditioning, sampler="consistency", distillation=distillation, **kwargs)


def follow(teacher: DiffusionPolicy, x: Tensor, t: int, s: int, condition: Any) -> Tensor:
    """One step of DDIM from t to s by its textbook form, on a single row."""
    abar = [float(a) for a in teacher.noise_schedule.alphas_cumprod]  # type: ignore[union-attr]
    noise = teacher.model(x, t, **condition.denoiser_kwargs)
    clean = (x - (1 - abar[t]) ** 0.5 * noise) / abar[t] ** 0.5
    signal = abar[s] if s >= 0 else 1.0
    return signal**0.5 * clean.clamp(-1, 1) + (1 - signal) ** 0.5 * noise


@pytest.mark.parametrize("conditioning", ["global", "local", "inpaint"])
def test_target_is_the_own_prediction_a_teachers_step_further(
    monkeypatch: pytest.MonkeyPatch, conditioning: str
) -> None:
    teacher = tiny_policy(conditioning)
    student = student_of(monkeypatch, teacher, steps=5, conditioning=conditioning)
    student.load_state_dict({k: v + 0.01 for k, v in teacher.state_dict().items()})
    student.set_normalizer(teacher.normalizer)
    timestep = torch.tensor([9, 5, 2, 0])
    batch = training_batch(teacher)
    condition = student.condition(student.encode(batch["obs"]))
    noisy = condition.with_known_values(torch.randn(condition.shape, generator=generators(3)[0]))
    assert student.distillation is not None
    target = student.distillation.target(student, batch, noisy, timestep, condition)
    assert not target.requires_grad

    for row, t in enumerate(timestep.tolist()):
        obs = {key: values[row : row + 1] for key, values in batch["obs"].items()}
        given = teacher.condition(teacher.encode(obs))
        cleaner = given.with_known_values(follow(teacher, noisy[row : row + 1], t, t - 2, given))
        expected = cleaner
        if t >= 2:
            expected = student.model(cleaner, t - 2, **given.denoiser_kwargs).clamp(-1, 1)
        ours = given.with_known_values(target[row : row + 1])
        torch.testing.assert_close(ours, given.with_known_values(expected), rtol=0, atol=2e-5)


def test_student_begins_as_its_teacher_and_holds_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = tiny_policy(sampler="ddim")
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.1)
    student = student_of(monkeypatch, teacher)
    student.fit(None)  # type: ignore[arg-type]
    assert set(student.state_dict()) == set(teacher.state_dict())
    for name, value in teacher.state_dict().items():
        assert torch.equal(student.state_dict()[name], value), name
    assert len(list(student.modules())) == len(list(teacher.modules()))


def test_one_call_comes_near_the_end_of_the_teachers_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the distance of the trained student from the teacher's samples of other noise."""
    network = partial(
        ConditionalUnet1D, down_dims=(16, 32), diffusion_step_embed_dim=16, cond_predict_scale=True
    )
    teacher = tiny_policy(model=network, sampler="ddim")
    student = student_of(monkeypatch, teacher, model=network)
    student.fit(None)  # type: ignore[arg-type]
    student.sampler = partial(sample_consistency, steps=1)
    teacher.sampler = partial(sample_ddim, steps=5, spacing="trailing")
    obs = observations(64)
    noise = torch.randn(64, 8, 2, generator=generators(5)[0])

    def distance(shift: int = 0) -> float:
        ours = student.eval().predict_action(obs, noise=noise)["action_pred"]
        theirs = teacher.predict_action(obs, noise=noise.roll(shift, dims=0))["action_pred"]
        return (ours - theirs).square().mean().item()

    before = distance()
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    for step in range(300):
        torch.manual_seed(step)
        batch = {"obs": observations(64, seed=step % 7 + 1), "action": training_batch(teacher, 64)["action"]}
        loss, _ = student.train()(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert distance() < before / 3
    assert distance() < distance(shift=1) / 2


@pytest.mark.parametrize(
    ("student_kwargs", "message"),
    [
        ({"noise_schedule": NoiseSchedule(N)}, "prediction_type=sample"),
        ({"noise_schedule": RectifiedFlow(N, "sample")}, "the teacher's noise schedule"),
        ({"steps": 11}, "at most the teacher's 10"),
        ({"horizon": 16}, "has horizon=8, and the policy 16"),
        ({"model": partial(ConditionalUnet1D, down_dims=(16, 32))}, "other sizes"),
    ],
)
def test_what_does_not_fit_the_teacher_is_refused(
    monkeypatch: pytest.MonkeyPatch, student_kwargs: dict[str, Any], message: str
) -> None:
    student = student_of(monkeypatch, tiny_policy(), **student_kwargs)
    with pytest.raises(ValueError, match=message):
        student.fit(None)  # type: ignore[arg-type]


def test_regression_teaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    student = student_of(monkeypatch, tiny_policy(prediction_type="regression"))
    with pytest.raises(ValueError, match="must denoise"):
        student.fit(None)  # type: ignore[arg-type]


def test_a_missing_teacher_is_named(tmp_path: Path) -> None:
    schedule = NoiseSchedule(N, prediction_type="sample")
    unnamed = tiny_policy(noise_schedule=schedule, distillation=ConsistencyDistillation())
    with pytest.raises(ValueError, match=r"policy\.distillation\.teacher=RUN"):
        unnamed.fit(None)  # type: ignore[arg-type]
    missing = tiny_policy(
        noise_schedule=schedule, distillation=ConsistencyDistillation(str(tmp_path / "nowhere"))
    )
    with pytest.raises(FileNotFoundError, match="nowhere"):
        missing.fit(None)  # type: ignore[arg-type]


def test_steps_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"distillation\.steps must be at least 1, got 0"):
        ConsistencyDistillation("teacher", 0)


def test_reading_the_teacher_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run reads it amid a step, whose noise must be that of a run that was never stopped."""

    def read(path: str, device: str, **_: Any) -> DiffusionPolicy:
        torch.rand(100)  # as its random initialisation does
        return tiny_policy()

    monkeypatch.setattr(consistency_distillation, "load_policy", read)
    schedule = NoiseSchedule(N, prediction_type="sample")
    student = tiny_policy(noise_schedule=schedule, distillation=ConsistencyDistillation("teacher", 5))
    batch = training_batch(student)
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        losses.append([student(batch)[0].item() for _ in range(2)])
    assert losses[0] == losses[1]


def test_copies_share_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    student = student_of(monkeypatch, tiny_policy())
    student.fit(None)  # type: ignore[arg-type]
    twin = copy.deepcopy(student)
    assert student.distillation is not None
    assert twin.distillation is not None
    assert twin.distillation.teacher(twin) is student.distillation.teacher(student)


def test_the_teacher_may_build_what_the_run_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    trusted = []

    def read(path: str, device: str, trusted_targets: Any) -> DiffusionPolicy:
        trusted.extend(trusted_targets)
        return tiny_policy()

    monkeypatch.setattr(consistency_distillation, "load_policy", read)
    distillation = ConsistencyDistillation("teacher", 5, ["my_package.MyEncoder"])
    student = tiny_policy(
        noise_schedule=NoiseSchedule(N, prediction_type="sample"), distillation=distillation
    )
    student.fit(None)  # type: ignore[arg-type]
    assert trusted == ["my_package.MyEncoder"]
