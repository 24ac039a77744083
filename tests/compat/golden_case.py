"""Recorded inputs, weights and outputs of the original implementation, and how each kind is checked.

A case is `NAME.json` (arguments of the original's constructors) and `NAME.npz` (arrays). Its kind is the
beginning of its name. Every check builds our object with `from_original` and raises AssertionError where it
disagrees.
"""

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diffusion_policy.common.sampler import SequenceSampler, downsample_mask, get_val_mask
from diffusion_policy.compat.original import from_original
from diffusion_policy.compat.weight_names import map_state_dict
from diffusion_policy.model.common.lr_scheduler import get_scheduler
from diffusion_policy.model.diffusion.transformer_for_diffusion import TransformerForDiffusion
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy

UNET = "diffusion_policy.model.diffusion.conditional_unet1d.ConditionalUnet1D"
UNET_POLICY = "diffusion_policy.policy.diffusion_unet_lowdim_policy.DiffusionUnetLowdimPolicy"
TRANSFORMER = "diffusion_policy.model.diffusion.transformer_for_diffusion.TransformerForDiffusion"
TRANSFORMER_POLICY = (
    "diffusion_policy.policy.diffusion_transformer_lowdim_policy.DiffusionTransformerLowdimPolicy"
)
TRANSFORMER_HYBRID_POLICY = (
    "diffusion_policy.policy.diffusion_transformer_hybrid_image_policy.DiffusionTransformerHybridImagePolicy"
)
LOWDIM_POLICIES = {"unet": (UNET_POLICY, UNET), "transformer": (TRANSFORMER_POLICY, TRANSFORMER)}
HYBRID_POLICY = "diffusion_policy.policy.diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy"
IMAGE_POLICY = "diffusion_policy.policy.diffusion_unet_image_policy.DiffusionUnetImagePolicy"
IMAGE_ENCODER = "diffusion_policy.model.vision.multi_image_obs_encoder.MultiImageObsEncoder"
RESNET = "diffusion_policy.model.vision.model_getter.get_resnet"
NORMALIZER = "diffusion_policy.model.common.normalizer.LinearNormalizer"
EMA = "diffusion_policy.model.diffusion.ema_model.EMAModel"
MASK = "diffusion_policy.model.diffusion.mask_generator.LowdimMaskGenerator"
SCHEDULERS = {
    "DDPM": "diffusers.schedulers.scheduling_ddpm.DDPMScheduler",
    "DDIM": "diffusers.schedulers.scheduling_ddim.DDIMScheduler",
}
NOT_YET = {"original_": "checkpoint files of the original are not read yet"}


@dataclass
class GoldenCase:
    """One recorded case: its name, arguments and arrays."""

    name: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def load(cls, path: Path) -> "GoldenCase":
        with np.load(path.with_suffix(".npz")) as arrays:
            return cls(path.stem, json.loads(path.read_text()), dict(arrays))

    def tensor(self, key: str) -> torch.Tensor:
        return torch.from_numpy(np.array(self.arrays[key]))

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """All arrays below `prefix`, by the rest of their names."""
        return {key.removeprefix(prefix): self.tensor(key) for key in self.arrays if key.startswith(prefix)}


def golden_paths() -> list[Path]:
    """The JSON files of `$GOLDEN_DIR`, else of the recordings beside the repository, else of tests/golden."""
    tests = Path(__file__).resolve().parent.parent
    beside = tests.parent.parent / "shared" / "golden"
    default = beside if beside.exists() else tests / "golden"
    return sorted(Path(os.environ.get("GOLDEN_DIR", default)).glob("*.json"))


def check(case: GoldenCase) -> None:
    """Run the check of the case's kind."""
    kinds = [kind for kind in CHECKS if case.name.startswith(kind)]
    assert kinds, f"golden case {case.name!r} is of no known kind; known are {sorted(CHECKS)}"
    CHECKS[max(kinds, key=len)](case)


def _close(ours: torch.Tensor, golden: torch.Tensor, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    torch.testing.assert_close(ours, golden, rtol=rtol, atol=atol)


def _check_unet(case: GoldenCase) -> None:
    unet = from_original(UNET, case.meta, case.tensors("sd/")).eval()
    conditions = {key: case.tensor(key) for key in ("local_cond", "global_cond") if key in case.arrays}
    with torch.inference_mode():
        _close(unet(case.tensor("sample"), case.tensor("timestep"), **conditions), case.tensor("output"))
        if "output_t5" in case.arrays:
            _close(unet(case.tensor("sample"), 5, **conditions), case.tensor("output_t5"))


def _check_transformer(case: GoldenCase) -> None:
    arguments = {name: value for name, value in case.meta.items() if name != "optim_groups"}
    transformer = from_original(TRANSFORMER, arguments, case.tensors("sd/")).eval()
    condition = {"cond": case.tensor("cond")} if arguments.get("cond_dim") else {}
    sample = case.tensor("sample")
    with torch.inference_mode():
        _close(transformer(sample, case.tensor("timestep"), **condition), case.tensor("output"))
        if "output_t5" in case.arrays:
            _close(transformer(sample, 5, **condition), case.tensor("output_t5"))
    if "optim_groups" in case.meta:
        _check_optimizer_groups(transformer, case.meta["optim_groups"])


def _check_optimizer_groups(transformer: nn.Module, golden: list[dict[str, Any]]) -> None:
    decay = golden[0]["weight_decay"]
    optimizer = torch.optim.AdamW(transformer.param_groups(), weight_decay=decay)  # type: ignore[operator]
    names = {id(parameter): name for name, parameter in transformer.named_parameters()}
    ours = [
        {"weight_decay": group["weight_decay"], "params": [names[id(p)] for p in group["params"]]}
        for group in optimizer.param_groups
    ]
    without_dummy = [
        {**group, "params": [name for name in group["params"] if name != "_dummy_variable"]}
        for group in golden
    ]
    assert ours == without_dummy, f"optimizer groups: {ours}"


def _check_normalizer(case: GoldenCase) -> None:
    fitted = from_original(NORMALIZER, {})
    fitted.fit({key: value.numpy() for key, value in case.tensors("data/").items()}, **case.meta)
    loaded = from_original(NORMALIZER, {}, case.tensors("sd/"))
    for name, value in map_state_dict(case.tensors("sd/")).items():
        _close(fitted.state_dict()[name], value, atol=1e-6)
    for normalizer in (fitted, loaded):
        for key, probe in case.tensors("probe/").items():
            _close(normalizer[key].normalize(probe), case.tensor(f"normalized/{key}"))
            _close(normalizer[key].unnormalize(probe), case.tensor(f"unnormalized/{key}"))


def _check_sampler(case: GoldenCase) -> None:
    meta, ends = case.meta, case.arrays["episode_ends"]
    val_mask = get_val_mask(meta["n_episodes"], meta["val_ratio"], seed=meta["val_seed"])
    np.testing.assert_array_equal(val_mask, case.arrays["val_mask"])
    downsampled = downsample_mask(~val_mask, meta["downsample_max_n"], seed=meta["downsample_seed"])
    np.testing.assert_array_equal(downsampled, case.arrays["downsampled"])
    for window in meta["cases"]:
        sampler = SequenceSampler(ends, **window, episode_mask=~val_mask)
        name = "indices_{sequence_length}_{pad_before}_{pad_after}".format(**window)
        np.testing.assert_array_equal(sampler.indices, case.arrays[name])


def _check_ema_decay(case: GoldenCase) -> None:
    ema = from_original(EMA, {"model": nn.Identity(), **case.meta})
    decays = [ema.decay(int(step)) for step in case.arrays["step"]]
    np.testing.assert_allclose(decays, case.arrays["decay"], rtol=1e-12, atol=0)


def _check_mask(case: GoldenCase) -> None:
    golden = case.tensor("mask")
    assert torch.equal(from_original(MASK, case.meta)(tuple(golden.shape)), golden)


def _scheduler(case: GoldenCase) -> dict[str, Any]:
    return {"_target_": SCHEDULERS[case.meta["scheduler"]], **case.meta["scheduler_kwargs"]}


def _lowdim_policy(kind: str, case: GoldenCase, state: dict[str, torch.Tensor]) -> DiffusionPolicy:
    policy, denoiser = LOWDIM_POLICIES[kind]
    model = {"_target_": denoiser, **case.meta["model"]}
    kwargs = {**case.meta["policy"], "model": model, "noise_scheduler": _scheduler(case)}
    return from_original(policy, kwargs, state)


def _check_lowdim_policy(kind: str, case: GoldenCase) -> None:
    policy = _lowdim_policy(kind, case, case.tensors("sd/")).eval()
    torch.manual_seed(case.meta["predict_seed"])
    with torch.inference_mode():
        result = policy.predict_action({"obs": case.tensor("obs")})
    for key, golden in case.tensors("result/").items():
        field = "obs" if "obs" in key else "action"
        ours = _original_result(policy, result, key)
        normalize = policy.normalizer[field].normalize  # float32 cannot hold 1e-5 in pixels
        _close(normalize(ours), normalize(golden))

    batch = {"obs": {"obs": case.tensor("batch_obs")}, "action": case.tensor("batch_action")}
    torch.manual_seed(case.meta["loss_seed"])
    with torch.inference_mode():
        loss, _ = policy.compute_loss(batch)
    _close(loss, case.tensor("loss"))


def _image_state(case: GoldenCase) -> dict[str, torch.Tensor]:
    """Buffers and normaliser as recorded, weights by the rule that the case states."""
    state = case.tensors("sd/")
    for name, shape in case.meta["parameters"].items():
        values = 0.05 * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        is_norm_weight = name.endswith(".weight") and len(shape) == 1
        state[name] = torch.from_numpy(values + is_norm_weight).float()
    return state


def _hybrid_policy(target: str, case: GoldenCase) -> DiffusionPolicy:
    kwargs = {**case.meta["policy"], "noise_scheduler": _scheduler(case)}
    return from_original(target, kwargs, _image_state(case))


def _multi_image_policy(case: GoldenCase) -> DiffusionPolicy:
    name, weights = case.meta["rgb_model"].split(", weights=")
    assert weights == "None", f"the case asks for weights {weights}"
    encoder = {
        "_target_": IMAGE_ENCODER,
        **case.meta["encoder"],
        "rgb_model": {"_target_": RESNET, "name": name, "weights": None},
    }
    kwargs = {**case.meta["policy"], "obs_encoder": encoder, "noise_scheduler": _scheduler(case)}
    return from_original(IMAGE_POLICY, kwargs, _image_state(case))


def _check_image_policy(build: Callable[[GoldenCase], DiffusionPolicy], case: GoldenCase) -> None:
    policy = build(case).eval()
    obs = case.tensors("obs/")
    with torch.inference_mode():
        if "feature" in case.arrays:
            features = policy.encode({key: values[:, : policy.n_obs_steps] for key, values in obs.items()})
            _close(features.flatten(0, 1), case.tensor("feature"))
        torch.manual_seed(case.meta["predict_seed"])
        result = policy.predict_action(obs)
    normalize = policy.normalizer["action"].normalize
    for key, golden in case.tensors("result/").items():
        _close(normalize(result[key]), normalize(golden))


def _original_result(policy: DiffusionPolicy, result: dict[str, Any], key: str) -> torch.Tensor:
    """Our result under the original's name; `action_obs_pred` are the observations of the executed steps."""
    if key == "obs_pred":
        return result["obs_pred"]["obs"]
    if key == "action_obs_pred":
        start = policy.first_action_step
        return result["obs_pred"]["obs"][:, start : start + policy.n_action_steps]
    return result[key]


def _optimizer(policy: DiffusionPolicy, settings: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW over the policy's groups; the arguments are torch's or those of the original's `get_optimizer`."""
    names = {"learning_rate": "lr", "transformer_weight_decay": "weight_decay"}
    arguments = {names.get(name, name): value for name, value in settings.items() if name != "_target_"}
    if isinstance(policy.model, TransformerForDiffusion):  # defaults of its `configure_optimizers`
        arguments = {"lr": 1e-4, "weight_decay": 1e-3, "betas": (0.9, 0.95)} | arguments
    policy.obs_encoder_weight_decay = arguments.pop("obs_encoder_weight_decay", None)
    return torch.optim.AdamW(policy.param_groups(), **arguments)


def _check_training(kind: str, case: GoldenCase) -> None:
    """Follow a training run of the original step by step: loss, optimizer, learning rate, average."""
    meta = case.meta
    policy = _lowdim_policy(kind, case, case.tensors("init/")).train()
    ema = from_original(EMA, {"model": _lowdim_policy(kind, case, case.tensors("init/")), **meta["ema"]})
    optimizer = _optimizer(policy, meta["optimizer"])
    scheduler = get_scheduler(optimizer=optimizer, **meta["lr_schedule"])
    for step in range(meta["steps"]):
        batch = {"obs": {"obs": case.tensor("batch_obs")[step]}, "action": case.tensor("batch_action")[step]}
        torch.manual_seed(5000 + step)
        loss, _ = policy(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        ema.step(policy)
        np.testing.assert_allclose(loss.item(), case.arrays["losses"][step], rtol=1e-4, err_msg=f"{step=}")
        np.testing.assert_allclose(
            scheduler.get_last_lr()[0], case.arrays["lrs"][step], rtol=1e-6, atol=1e-12
        )
    for prefix, model in (("final/", policy), ("ema/", ema.averaged_model)):
        golden = map_state_dict(case.tensors(prefix))
        assert golden, f"the case holds no arrays below {prefix}"
        ours = model.state_dict()
        assert set(ours) == set(golden)
        for name in golden:
            value, our_value = _learned(name, golden[name]), _learned(name, ours[name])
            assert torch.linalg.norm(our_value - value) <= 1e-4 * torch.linalg.norm(value), name


def _learned(name: str, value: torch.Tensor) -> torch.Tensor:
    """A weight without what no loss reaches: the softmax of attention cancels the bias of its keys.

    The gradient of that bias is rounding noise, which Adam scales up and another number of threads changes.
    """
    if not name.endswith("in_proj_bias"):
        return value
    queries, _, values = value.chunk(3)
    return torch.cat((queries, values))


CHECKS: dict[str, Callable[[GoldenCase], None]] = {
    "unet1d_": _check_unet,
    "transformer_": _check_transformer,
    "normalizer_": _check_normalizer,
    "sampler": _check_sampler,
    "ema_decay": _check_ema_decay,
    "mask_": _check_mask,
    "policy_unet_": partial(_check_lowdim_policy, "unet"),
    "policy_transformer_": partial(_check_lowdim_policy, "transformer"),
    "policy_transformer_hybrid": partial(
        _check_image_policy, partial(_hybrid_policy, TRANSFORMER_HYBRID_POLICY)
    ),
    "policy_hybrid_image": partial(_check_image_policy, partial(_hybrid_policy, HYBRID_POLICY)),
    "policy_multi_image": partial(_check_image_policy, _multi_image_policy),
    "train_unet_": partial(_check_training, "unet"),
    "train_transformer_": partial(_check_training, "transformer"),
}
