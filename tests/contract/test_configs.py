"""What every configuration must do; a new YAML is tested by being in `config/`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from diffusion_policy.common.checkpoint import CheckpointStore
from diffusion_policy.common.evaluation_seeds import SELECTION_SEEDS, TEST_SEEDS
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.policy.base_policy import BasePolicy
from tests.conftest import REPOSITORY
from tests.contract.demonstrations import WRITERS

CONFIG = REPOSITORY / "diffusion_policy" / "config"
OWN_TASKS = REPOSITORY / "configs" / "task"  # where `diffusion-policy data init` puts them
MODEL_OF = {
    "diffusion_transformer": "transformer_small"
}  # of a policy whose conditioning the default does not fit


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIG / group).glob("*.yaml"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITERS["PushTLowdimDataset"](tmp_path_factory.mktemp("data"), {})


def composed(data: Path | None, *overrides: str) -> dict[str, Any]:
    path = [] if data is None else [f"task.dataset.path={data}"]
    with initialize_config_module("diffusion_policy.config", version_base="1.3"):
        search_path = [f"hydra.searchpath=[file://{OWN_TASKS.parent}]"] if OWN_TASKS.is_dir() else []
        config = compose("train", [*search_path, *path, *overrides])
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def policy_choice(policy_name: str) -> list[str]:
    model = MODEL_OF.get(policy_name)
    return [f"policy={policy_name}", *([f"model={model}"] if model else [])]


def built(data: Path, *overrides: str) -> tuple[BasePolicy, Any]:
    config = composed(data, *overrides)
    dataset = instantiate(config["task"]["dataset"])
    if "distillation" in config["policy"]:
        config["policy"]["distillation"]["teacher"] = teacher(data, dataset, *overrides)
    policy = instantiate(config["policy"])
    policy.fit(dataset)
    return policy, dataset


def teacher(data: Path, dataset: Any, *overrides: str) -> str:
    """An untrained diffusion policy of the same sizes, saved where the demonstrations are."""
    config = composed(data, *overrides, "policy=diffusion_unet")
    policy = instantiate(config["policy"])
    policy.fit(dataset)
    checkpoints = CheckpointStore(data.parent / f"teacher_{config['task']['name']}", "val_loss")
    return str(checkpoints.save(0, config, policy.state_dict(), {}, {}).path)


@pytest.mark.parametrize("task", ["pusht_lowdim", "pusht_image"])
@pytest.mark.parametrize("policy_name", choices("policy"))
def test_policy(data: Path, policy_name: str, task: str) -> None:
    policy, dataset = built(data, *policy_choice(policy_name), f"task={task}")
    batch = dataset.batch(np.arange(3), policy.n_train_obs_steps)
    trainable = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    if trainable:
        loss, metrics = policy(batch)
        loss.backward()
        assert loss.isfinite()
        assert torch.equal(metrics["loss"], loss.detach())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in trainable)
        grouped = [p for group in policy.param_groups() for p in group["params"]]
        assert {id(p) for p in grouped} == {id(p) for p in trainable}
    else:
        with pytest.raises(NotImplementedError):
            policy(batch)

    policy.eval()
    copy, _ = built(data, *policy_choice(policy_name), f"task={task}")
    copy.load_state_dict(policy.state_dict())
    actions = []
    for model in (policy, policy, copy.eval()):
        model.reset([0, 1, 2])
        with torch.inference_mode():
            result = model.predict_action(batch["obs"], generator=torch.Generator().manual_seed(7))
        actions.append(result["action"])
        assert result["action"].shape == (3, policy.n_action_steps, policy.action_dim)
    assert torch.equal(actions[0], actions[1])
    assert torch.equal(actions[0], actions[2])


@pytest.mark.parametrize("model", choices("model"))
def test_model(data: Path, model: str) -> None:
    takes_tokens = model.startswith("transformer")
    policy_name = "diffusion_transformer" if takes_tokens else "diffusion_unet"
    policy, dataset = built(data, f"policy={policy_name}", f"model={model}")
    loss, _ = policy(dataset.batch(np.arange(2), policy.n_train_obs_steps))
    assert loss.isfinite()
    grouped = [id(p) for group in policy.param_groups() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in policy.parameters())


@pytest.mark.parametrize("obs_encoder", choices("obs_encoder"))
def test_obs_encoder(data: Path, obs_encoder: str) -> None:
    encoder = instantiate(composed(data, "task=pusht_image", f"obs_encoder={obs_encoder}")["obs_encoder"])
    obs = {"image": torch.zeros(2, 3, 3, 96, 96), "agent_pos": torch.zeros(2, 3, 2)}
    assert encoder(obs).shape == (2, 3, encoder.feature_dim)
    without_cameras = instantiate(composed(data, f"obs_encoder={obs_encoder}")["obs_encoder"])
    assert without_cameras({"obs": torch.ones(2, 3, 20)}).shape == (2, 3, 20)


@pytest.mark.parametrize("sampler", choices("sampler"))
def test_sampler(data: Path, sampler: str) -> None:
    policy, dataset = built(data, f"sampler={sampler}")
    batch = dataset.batch(np.arange(2), policy.n_obs_steps)
    with torch.inference_mode():
        actions = policy.eval().predict_action(batch["obs"])["action"]
    low, high = policy.normalizer["action"].input_min, policy.normalizer["action"].input_max
    assert ((actions >= low - 1e-3) & (actions <= high + 1e-3)).all(), "clipped to the recorded range"


@pytest.mark.parametrize("recipe", choices("recipe"))
def test_recipe(data: Path, recipe: str) -> None:
    config = composed(data, f"recipe={recipe}")
    policy = instantiate(config["policy"])
    n_parameters = sum(parameter.numel() for parameter in policy.parameters())
    published = {"paper": 65_783_298, "paper_transformer": 8_965_122}
    assert n_parameters == published.get(recipe, n_parameters)
    assert config["training"]["num_epochs"] > 0
    assert set(config["training"]) == set(composed(data)["training"]), "a recipe sets no unknown option"
    instantiate(config["optimizer"])(policy.param_groups())


def own_targets(config: Any) -> list[str]:
    """All names that a part of a configuration builds: here they are trusted."""
    if isinstance(config, list):
        return [target for value in config for target in own_targets(value)]
    if not isinstance(config, dict):
        return []
    own = [config["_target_"]] if "_target_" in config else []
    return own + [target for value in config.values() for target in own_targets(value)]


def task_dataset(config: dict[str, Any], folder: Path) -> Any:
    """Of the demonstrations that the task names, or of small ones in their layout.

    Skips where there are neither, but for a task of one's own: its demonstrations and code must be there.
    """
    dataset = config["task"]["dataset"]
    writer = WRITERS.get(dataset["_target_"].rpartition(".")[2])
    if writer is not None:
        dataset["path"] = str(writer(folder, dataset))
    try:
        return instantiate(dataset, own_targets(config["task"]))
    except (FileNotFoundError, ImportError) as error:
        if (OWN_TASKS / f"{config['task']['name']}.yaml").exists():
            raise
        pytest.skip(str(error))


@pytest.mark.sim
@pytest.mark.parametrize("task", [*choices("task"), *sorted(path.stem for path in OWN_TASKS.glob("*.yaml"))])
def test_task(tmp_path: Path, task: str, caplog: pytest.LogCaptureFixture) -> None:
    """A training sample and the environment look the same, and the environment takes the recorded actions."""
    config = composed(None, f"task={task}")
    dataset, meta = task_dataset(config, tmp_path), config["task"]["shape_meta"]
    sample = dataset.batch(np.arange(1), 1)
    assert list(sample["obs"]) == list(meta["obs"])
    for key, value in sample["obs"].items():
        assert value.shape == (1, 1, *meta["obs"][key]["shape"])
        assert value.dtype == torch.float32
    assert sample["action"].shape[-1:] == tuple(meta["action"]["shape"])
    if config["task"]["env_runner"] is not None:
        runner_config = config["task"]["env_runner"] | {"pool": "in_process"}
        runner = instantiate(runner_config, own_targets(config["task"]), seeds=[0])
        runner.check(dataset, meta)
        assert not caplog.messages, "of a part of the task that does not fit"


def test_unknown_options_are_named(data: Path) -> None:
    config = composed(data)
    config["policy"]["horizn"] = 16
    with pytest.raises(ValueError, match="horizn"):
        instantiate(config["policy"])


def test_seed_ranges_are_disjoint() -> None:
    human_demonstrations = range(206)
    assert not set(SELECTION_SEEDS) & set(TEST_SEEDS)
    assert not set(human_demonstrations) & (set(SELECTION_SEEDS) | set(TEST_SEEDS))
    assert max(SELECTION_SEEDS, default=0) < 500_000 > max(TEST_SEEDS)
