"""The original's image policies with other arguments than the recorded ones: names of weights, and kept defects."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion_policy.compat.original import from_original
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from tests.compat.golden_case import (
    HYBRID_POLICY,
    IMAGE_ENCODER,
    IMAGE_POLICY,
    RESNET,
    SCHEDULERS,
    TRANSFORMER_HYBRID_POLICY,
)

SHAPE_META: dict[str, Any] = {
    "obs": {
        "wrist": {"shape": [3, 40, 40], "type": "rgb"},
        "pose": {"shape": [3]},
        "camera_0": {"shape": [3, 40, 40], "type": "rgb"},
    },
    "action": {"shape": [2]},
}
POLICY: dict[str, Any] = {
    "shape_meta": SHAPE_META,
    "noise_scheduler": {"_target_": SCHEDULERS["DDPM"], "num_train_timesteps": 100},
    "horizon": 8,
    "n_action_steps": 4,
    "n_obs_steps": 2,
    "num_inference_steps": 3,
    "diffusion_step_embed_dim": 16,
    "down_dims": [16, 32],
}
UNET_SIZES = ("diffusion_step_embed_dim", "down_dims")
TRANSFORMER_POLICY: dict[str, Any] = {
    **{name: value for name, value in POLICY.items() if name not in UNET_SIZES},
    "crop_shape": [36, 36],
    "n_layer": 1,
    "n_head": 2,
    "n_emb": 16,
}
ENCODER: dict[str, Any] = {
    "_target_": IMAGE_ENCODER,
    "shape_meta": SHAPE_META,
    "rgb_model": {"_target_": RESNET, "name": "resnet18"},
    "crop_shape": [36, 36],
}
ROBOMIMICS_CHILDREN = ["conv1", "bn1", None, None, "layer1", "layer2", "layer3", "layer4"]


def hybrid_names(name: str) -> list[str]:
    """The original's names of one of our weights; robomimic registered backbone and pool twice."""
    if "image_encoders." not in name:
        return [name]
    camera, part, rest = name.split(".", 4)[2:5]
    prefix = f"obs_encoder.obs_nets.{camera}"
    if part == "head":
        return [f"{prefix}.nets.3.{rest.removeprefix('0.')}"]
    if part == "pool":
        return [f"{prefix}.{place}.{rest.replace('conv', 'nets')}" for place in ("pool", "nets.1")]
    child, rest = rest.split(".", 1)
    return [f"{prefix}.{p}.nets.{ROBOMIMICS_CHILDREN.index(child)}.{rest}" for p in ("backbone", "nets.0")]


def multi_image_names(name: str) -> list[str]:
    return [name.replace("image_encoders", "key_model_map").replace(".backbone.", ".")]


def original_state(policy: DiffusionPolicy, names: Any) -> dict[str, Tensor]:
    """Random weights under the original's names, and what it stored besides."""
    torch.manual_seed(1)
    state = {"_dummy_variable": torch.zeros(0), "obs_encoder._dummy_variable": torch.zeros(0)}
    for ours, value in policy.state_dict().items():
        random = (0.05 * torch.rand(value.shape)).to(value.dtype)  # small: batch norms multiply
        state |= dict.fromkeys(names(ours), random)
    for camera in ("wrist", "camera_0"):
        if names is hybrid_names:
            for constant in ("temperature", "pos_x", "pos_y"):
                state[f"obs_encoder.obs_nets.{camera}.pool.{constant}"] = torch.ones(1)
                state[f"obs_encoder.obs_nets.{camera}.nets.1.{constant}"] = torch.ones(1)
    for field, dim in {"wrist": 1, "camera_0": 1, "pose": 3, "action": 2}.items():
        tree = ("scale", "offset", *(f"input_stats.{name}" for name in ("min", "max", "mean", "std")))
        state |= {f"normalizer.params_dict.{field}.{leaf}": torch.ones(dim) for leaf in tree}
    return state


def acts(policy: DiffusionPolicy) -> bool:
    obs = {key: torch.rand(2, 2, *meta["shape"]) for key, meta in SHAPE_META["obs"].items()}
    return bool(policy.eval().predict_action(obs)["action"].isfinite().all())


@pytest.mark.parametrize("group_norm", [True, False])
@pytest.mark.parametrize("crop_shape", [[36, 36], None])
def test_hybrid_weights_have_a_home(group_norm: bool, crop_shape: list[int] | None) -> None:
    kwargs = {**POLICY, "crop_shape": crop_shape, "obs_encoder_group_norm": group_norm}
    state = original_state(from_original(HYBRID_POLICY, kwargs), hybrid_names)
    policy = from_original(HYBRID_POLICY, kwargs, state)
    for ours, value in policy.state_dict().items():
        if not ours.startswith("normalizer"):
            assert torch.equal(value, state[hybrid_names(ours)[0]]), ours
    assert list(policy.obs_encoder.feature_dims) == ["wrist", "pose", "camera_0"]
    assert acts(policy)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("group_norm", [True, False])
@pytest.mark.parametrize("inpainting", [True, False])
def test_multi_image_weights_have_a_home(shared: bool, group_norm: bool, inpainting: bool) -> None:
    encoder = {**ENCODER, "share_rgb_model": shared, "use_group_norm": group_norm}
    kwargs = {**POLICY, "obs_encoder": encoder, "obs_as_global_cond": not inpainting}
    state = original_state(from_original(IMAGE_POLICY, kwargs), multi_image_names)
    policy = from_original(IMAGE_POLICY, kwargs, state)
    for ours, value in policy.state_dict().items():
        if not ours.startswith("normalizer"):
            assert torch.equal(value, state[multi_image_names(ours)[0]]), ours
    assert list(policy.obs_encoder.feature_dims) == ["camera_0", "wrist", "pose"]
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in policy.modules())
    assert has_batch_norm is (shared or not group_norm)
    assert acts(policy)


@pytest.mark.parametrize("as_tokens", [True, False])
@pytest.mark.parametrize("n_cond_layers", [0, 1])
def test_transformer_weights_have_a_home(n_cond_layers: int, as_tokens: bool) -> None:
    kwargs = {**TRANSFORMER_POLICY, "n_cond_layers": n_cond_layers, "obs_as_cond": as_tokens}
    fresh = from_original(TRANSFORMER_HYBRID_POLICY, kwargs)
    state = original_state(fresh, hybrid_names) | {"model.mask": fresh.model.mask}
    state |= {"model._dummy_variable": torch.zeros(0), "mask_generator._dummy_variable": torch.zeros(0)}
    policy = from_original(TRANSFORMER_HYBRID_POLICY, kwargs, state)
    for ours, value in policy.state_dict().items():
        if not ours.startswith("normalizer"):
            assert torch.equal(value, state[hybrid_names(ours)[0]]), ours
    assert acts(policy)


class Conv1(nn.Module):
    """A network of a user's own whose layer is called as one of a ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv1(images).mean(dim=(2, 3))


def test_a_network_given_as_an_object_keeps_its_names() -> None:
    encoder = from_original(
        IMAGE_ENCODER,
        {"shape_meta": SHAPE_META, "rgb_model": Conv1()},
        {
            f"key_model_map.{camera}.conv1.{name}": value
            for camera in ("wrist", "camera_0")
            for name, value in Conv1().conv1.state_dict().items()
        },
    )
    assert encoder.feature_dims == {"camera_0": 5, "wrist": 5, "pose": 3}


def test_a_weight_too_many_is_refused() -> None:
    state = original_state(from_original(HYBRID_POLICY, POLICY | {"crop_shape": None}), hybrid_names)
    state["obs_encoder.obs_nets.wrist.nets.4.weight"] = torch.ones(1)
    with pytest.raises(ValueError, match=r"wrist\.nets\.4\.weight"):
        from_original(HYBRID_POLICY, POLICY | {"crop_shape": None}, state)


class TestKeptDefects:
    """What the original did wrong, and its weights learned with."""

    def encoder(self, **kwargs: Any) -> MultiImageObsEncoder:
        arguments = {key: value for key, value in {**ENCODER, **kwargs}.items() if key != "_target_"}
        return from_original(IMAGE_ENCODER, arguments)

    def test_no_random_crop_is_no_crop(self) -> None:
        assert self.encoder(random_crop=False).transform("wrist").out_shape == (3, 40, 40)
        assert self.encoder(random_crop=True).transform("wrist").out_shape == (3, 36, 36)

    def test_imagenet_statistics_of_colours_in_minus_1_to_1(self) -> None:
        transform = self.encoder(imagenet_norm=True, crop_shape=None).transform("wrist")
        grey = transform(torch.zeros(1, 3, 40, 40))[0, :, 0, 0]
        torch.testing.assert_close(grey, torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))

    @pytest.mark.parametrize(("fixed", "random"), [(True, "training"), (False, "always")])
    def test_hybrid_crops_are_random_in_evaluation_unless_fixed(self, fixed: bool, random: str) -> None:
        policy = from_original(HYBRID_POLICY, {**POLICY, "crop_shape": [36, 36], "eval_fixed_crop": fixed})
        crop = policy.obs_encoder.transform("wrist").crop
        assert (crop.random, crop.last_place) == (random, False)

    def test_an_encoder_by_name_is_not_fetched(self) -> None:
        with pytest.raises(ValueError, match="weights='IMAGENET1K_V1' are not fetched"):
            from_original(RESNET, {"name": "resnet18", "weights": "IMAGENET1K_V1"})
        with pytest.raises(ValueError, match="name must be one of"):
            from_original(RESNET, {"name": "vgg16"})
