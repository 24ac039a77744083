"""Tests for load_policy.py."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from diffusion_policy.common.checkpoint import Checkpoint, CheckpointStore
from diffusion_policy.common.instantiate import UntrustedTargetError, instantiate
from diffusion_policy.model.diffusion.regression import sample_regression
from diffusion_policy.model.diffusion.samplers import sample_heun
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.policy.sampler_choice import named_sampler, sampler_names
from tests.policy.tiny_policy import DA, SHAPE_META, TA, TO, B, T, generators, normalizer, observations

PACKAGE = "diffusion_policy."


def config() -> dict[str, Any]:
    return {
        "policy": {
            "_target_": PACKAGE + "policy.diffusion_policy.DiffusionPolicy",
            "shape_meta": SHAPE_META,
            "horizon": T,
            "n_obs_steps": TO,
            "n_action_steps": TA,
            "model": {
                "_target_": PACKAGE + "model.diffusion.conditional_unet1d.ConditionalUnet1D",
                "_partial_": True,
                "down_dims": [8, 16],
                "diffusion_step_embed_dim": 8,
            },
            "conditioning": {"_target_": PACKAGE + "policy.conditioning.GlobalConditioning"},
            "noise_schedule": {
                "_target_": PACKAGE + "model.diffusion.noise_schedule.NoiseSchedule",
                "num_train_timesteps": 10,
            },
            "sampler": {
                "_target_": PACKAGE + "model.diffusion.samplers.sample_ddim",
                "_partial_": True,
                "steps": 5,
                "eta": 0.0,
            },
        },
        "training": {"seed": 1},
    }


@pytest.fixture
def policy() -> DiffusionPolicy:
    torch.manual_seed(0)
    built = instantiate(config()["policy"])
    built.set_normalizer(normalizer())
    return built.eval()


@pytest.fixture
def checkpoint(tmp_path: Path, policy: DiffusionPolicy) -> Checkpoint:
    return save(tmp_path, config(), policy.state_dict())


def save(folder: Path, configuration: dict[str, Any], weights: dict[str, torch.Tensor]) -> Checkpoint:
    store = CheckpointStore(folder / "checkpoints", "score")
    return store.save(3, configuration, weights, {"score": 0.5}, {})


def predicted(policy: Any) -> torch.Tensor:
    with torch.inference_mode():
        return policy.predict_action(observations(), generator=generators(1)[0])["action"]


@pytest.mark.parametrize("where", ["run", "checkpoints", "own folder"])
def test_acts_as_the_saved_policy(tmp_path, policy, checkpoint, where):
    path = {"run": tmp_path, "checkpoints": tmp_path / "checkpoints", "own folder": checkpoint.path}[where]
    loaded = load_policy(path, device="cpu")
    assert isinstance(loaded, DiffusionPolicy)
    assert not any(module.training for module in loaded.modules())
    assert loaded.device == torch.device("cpu")
    actions = predicted(loaded)
    assert actions.shape == (B, TA, DA)
    assert torch.equal(actions, predicted(policy))


def test_weights_are_those_saved_normaliser_included(policy, checkpoint):
    state = load_policy(checkpoint.path, "cpu").state_dict()
    assert state.keys() == policy.state_dict().keys()
    for name, tensor in policy.state_dict().items():
        assert torch.equal(state[name], tensor), name
    assert "normalizer.pose.scale" in state


def test_overrides_change_the_policy(policy, checkpoint):
    loaded = load_policy(checkpoint.path, "cpu", overrides=["policy.sampler.steps=2"])
    assert not torch.equal(predicted(loaded), predicted(policy))
    assert torch.equal(predicted(load_policy(checkpoint.path, "cpu")), predicted(policy))


def test_a_misspelt_override_is_named(checkpoint):
    with pytest.raises(ValueError, match="stepz"):
        load_policy(checkpoint.path, "cpu", overrides=["policy.sampler.stepz=2"])


def test_an_override_that_the_weights_do_not_fit_is_refused(checkpoint):
    with pytest.raises(ValueError, match="weights do not fit its configuration"):
        load_policy(checkpoint.path, "cpu", overrides=["policy.model.diffusion_step_embed_dim=16"])


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_weights_must_fit_exactly(tmp_path, policy, change):
    weights = dict(policy.state_dict())
    if change == "missing":
        del weights["model.final_conv.1.bias"]
    else:
        weights["model.extra"] = torch.zeros(1)
    saved = save(tmp_path, config(), weights)
    with pytest.raises(ValueError, match=r"weights do not fit.*(?s:.*)(final_conv\.1\.bias|model\.extra)"):
        load_policy(saved.path, "cpu")


def test_damaged_weights_are_reported(checkpoint):
    path = checkpoint.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is damaged"):
        load_policy(checkpoint.path, "cpu")


def test_no_checkpoint_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_policy(tmp_path / "nowhere")


def test_an_absent_device_is_reported_by_name(checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda' is not available"):
        load_policy(checkpoint.path, "cuda")


def test_a_configuration_without_a_policy_is_refused(tmp_path, policy):
    saved = save(tmp_path, {"training": {}}, policy.state_dict())
    with pytest.raises(ValueError, match="policy"):
        load_policy(saved.path, "cpu")


def with_encoder(target: str) -> dict[str, Any]:
    changed = config()
    changed["policy"]["obs_encoder"] = {"_target_": target}
    return changed


def test_foreign_classes_need_trust(tmp_path, policy):
    saved = save(tmp_path, with_encoder("torch.nn.Tanh"), policy.state_dict())
    with pytest.raises(UntrustedTargetError, match=r"--trust-target torch\.nn\.Tanh"):
        load_policy(saved.path, "cpu")
    with pytest.raises(AttributeError, match="feature_dim"):  # trusted now, but no encoder
        load_policy(saved.path, "cpu", trusted_targets=["torch.nn.Tanh"])


EVIL = "{_target_: os.mkdir, _args_: ['%s']}"


@pytest.mark.parametrize("hidden", [EVIL, "${oc.create:" + EVIL + "}", "\\${oc.create:" + EVIL + "}"])
def test_a_checkpoint_cannot_run_code(tmp_path, checkpoint, hidden):
    made = tmp_path / "made"
    changed = config()
    changed["policy"]["obs_encoder"] = yaml.safe_load(hidden % made) if hidden == EVIL else hidden % made
    (checkpoint.path / "config.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(UntrustedTargetError):
        load_policy(checkpoint.path, "cpu")
    assert not made.exists()


def test_a_sampler_is_chosen_by_name_and_its_steps_by_number(checkpoint):
    heun = load_policy(checkpoint.path, "cpu", sampler="heun", steps=3)
    assert (heun.sampler.func, heun.sampler.keywords["steps"]) == (sample_heun, 3)
    own = load_policy(checkpoint.path, "cpu", steps=2)
    by_override = load_policy(checkpoint.path, "cpu", overrides=["policy.sampler.steps=2"])
    assert torch.equal(predicted(own), predicted(by_override))
    changed = load_policy(checkpoint.path, "cpu", sampler="ddpm", overrides=["policy.sampler.steps=4"])
    assert changed.sampler.keywords["steps"] == 4


@pytest.mark.parametrize("name", sampler_names())
def test_every_sampler_runs_a_checkpoint(checkpoint, name):
    policy = load_policy(checkpoint.path, "cpu", sampler=name, steps=4)
    assert predicted(policy).isfinite().all()


def test_consistency_sampling_of_what_was_not_distilled_is_warned_of(checkpoint, caplog):
    load_policy(checkpoint.path, "cpu", sampler="consistency")
    assert "was not distilled: consistency sampling of it gives poor actions" in caplog.text


def test_the_tuned_sampler_is_the_one_beside_the_weights(checkpoint):
    with pytest.raises(FileNotFoundError, match="run `diffusion-policy tune-sampler"):
        load_policy(checkpoint.path, "cpu", sampler="tuned")
    (checkpoint.path / "sampler.yaml").write_text("# why\n" + yaml.safe_dump(named_sampler("heun")))
    assert load_policy(checkpoint.path, "cpu", sampler="tuned").sampler.func is sample_heun
    (checkpoint.path / "sampler.yaml").write_text(yaml.safe_dump({"_target_": "os.mkdir", "_partial_": True}))
    with pytest.raises(UntrustedTargetError, match="os.mkdir"):
        load_policy(checkpoint.path, "cpu", sampler="tuned")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"sampler": "dmp_solver"}, "sampler must be one of .*ddim, .*ddpm, .* or tuned, got 'dmp_solver'"),
        ({"sampler": "ddim"}, "steps must be between 1 and num_train_timesteps=10, got 16"),
        ({"steps": 11}, "steps must be between 1 and num_train_timesteps=10, got 11"),
        ({"steps": 0}, "got 0"),
        ({"overrides": ["policy.sampler.steps=11"]}, "num_train_timesteps=10, got 11"),
    ],
)
def test_a_sampler_that_cannot_be_is_refused_on_loading(checkpoint, choice, message):
    with pytest.raises(ValueError, match=message):
        load_policy(checkpoint.path, "cpu", **choice)


def test_a_sampler_that_does_not_fit_the_objective_is_refused_on_loading(tmp_path):
    regression = config()
    regression["policy"]["noise_schedule"] = {"_target_": PACKAGE + "model.diffusion.regression.Regression"}
    regression["policy"]["sampler"] = {
        "_target_": PACKAGE + "model.diffusion.regression.sample_regression",
        "_partial_": True,
    }
    policy = instantiate(regression["policy"])
    saved = save(tmp_path, regression, policy.state_dict())
    assert load_policy(saved.path, "cpu").sampler.func is sample_regression
    with pytest.raises(ValueError, match="needs a NoiseSchedule or a RectifiedFlow, got Regression"):
        load_policy(saved.path, "cpu", sampler="ddim")
    with pytest.raises(ValueError, match=r"sample_regression of .* has no steps to choose"):
        load_policy(saved.path, "cpu", steps=4)


def test_a_policy_without_a_sampler_has_none_to_choose(tmp_path):
    control = {"policy": {**config()["policy"], "_target_": PACKAGE + "policy.control_policies.ZeroPolicy"}}
    for part in ("model", "conditioning", "noise_schedule", "sampler"):
        del control["policy"][part]
    saved = save(tmp_path, control, instantiate(control["policy"]).state_dict())
    with pytest.raises(ValueError, match="its policy has no sampler"):
        load_policy(saved.path, "cpu", sampler="ddim")
