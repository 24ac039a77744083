"""Tests for instantiate.py."""

import copy
import sys
import types

import pytest
import torch
from omegaconf import OmegaConf

from diffusion_policy.common.instantiate import UntrustedTargetError, instantiate
from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule
from diffusion_policy.model.diffusion.samplers import sample_ddim
from diffusion_policy.policy.conditioning import Condition

SCHEDULE = "diffusion_policy.model.diffusion.noise_schedule.NoiseSchedule"
DDIM = "diffusion_policy.model.diffusion.samplers.sample_ddim"
CONDITION = "diffusion_policy.policy.conditioning.Condition"

HARMFUL = [
    "os.system",
    "builtins.eval",
    "builtins.open",
    "subprocess.run",
    "torch.load",
    "hydra.utils.instantiate",
    "functools.partial",
    # names that our modules import
    "diffusion_policy.common.checkpoint.load_file",
    "diffusion_policy.common.checkpoint.Path",
    "diffusion_policy.policy.diffusion_policy.Sequence",
    # modules that our modules import, and what is inside
    "diffusion_policy.common.atomic_write.shutil",
    "diffusion_policy.common.atomic_write.shutil.rmtree",
    "diffusion_policy.common.checkpoint.shutil.rmtree",
    "diffusion_policy.policy.diffusion_policy.torch.save",
    "diffusion_policy.model.diffusion.samplers.np.load",
    # our own functions, which could be told to trust more, write files or fetch data
    "diffusion_policy.policy.load_policy.load_policy",
    "diffusion_policy.common.instantiate.instantiate",
    "diffusion_policy.common.atomic_write.remove_temporaries",
    "diffusion_policy.cli.main",
    "diffusion_policy.dataset.download.download_pusht",
    # nothing at all
    "diffusion_policy",
    "diffusion_policy.policy",
    "nodots",
    "",
    "diffusion_policy_evil.Policy",
]


# What may be built


def test_builds_ours_with_arguments_from_the_configuration_and_the_call():
    schedule = instantiate(
        {"_target_": SCHEDULE, "num_train_timesteps": 7, "beta_schedule": "linear"}, prediction_type="sample"
    )
    assert isinstance(schedule, NoiseSchedule)
    assert schedule.num_train_timesteps == 7
    assert schedule.prediction_type == "sample"


def test_nested_objects_are_built_first_and_data_are_plain():
    built = instantiate({"_target_": CONDITION, "shape": [1, 2, 3], "known": {"_target_": SCHEDULE}})
    assert isinstance(built, Condition)
    assert isinstance(built.known, NoiseSchedule)
    assert type(built.shape) is list


def test_omegaconf_nodes_are_resolved():
    config = OmegaConf.create({"n": 9, "schedule": {"_target_": SCHEDULE, "num_train_timesteps": "${n}"}})
    assert instantiate(config.schedule).num_train_timesteps == 9


def test_a_partial_can_be_called_and_copied():
    sampler = instantiate({"_target_": DDIM, "_partial_": True, "steps": 1, "eta": 0.0})
    schedule = NoiseSchedule(4)
    x = torch.zeros(1, 2, 3)

    def denoise(x, t):
        return x + 0.5, x

    for each in (sampler, copy.deepcopy(sampler)):
        expected = sample_ddim(denoise, schedule, x, steps=1)
        assert torch.equal(each(denoise, schedule, x), expected)


def test_listed_torch_classes_are_trusted():
    assert isinstance(instantiate({"_target_": "torch.nn.Identity"}), torch.nn.Identity)


def test_other_names_are_built_once_trusted():
    config = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
    with pytest.raises(UntrustedTargetError, match="torch.nn.Linear"):
        instantiate(config)
    assert isinstance(instantiate(config, ["torch.nn.Linear"]), torch.nn.Linear)


def test_trust_is_for_the_whole_name():
    with pytest.raises(UntrustedTargetError):
        instantiate({"_target_": "torch.nn.Linear"}, ["torch.nn", "torch.nn.LinearX", "Linear"])


# What may not


@pytest.mark.parametrize("target", HARMFUL)
@pytest.mark.parametrize("partial", [False, True], ids=["call", "partial"])
def test_what_is_not_ours_is_refused(target, partial):
    with pytest.raises(ValueError, match=f"asks for '{target}'"):
        instantiate({"_target_": target, "_partial_": partial})


@pytest.mark.parametrize(
    "hide",
    [
        lambda target: {"_target_": CONDITION, "shape": target},
        lambda target: {"_target_": CONDITION, "shape": [1, [target]]},
        lambda target: {"_target_": CONDITION, "shape": (target,)},
        lambda target: {"_target_": CONDITION, "_args_": [target]},
        lambda target: {"_target_": CONDITION, "_recursive_": False, "shape": {"deep": target}},
        lambda target: [target],
        lambda target: {"no target here": target},
        lambda target: OmegaConf.create({"_target_": CONDITION, "shape": target}),
    ],
)
def test_refused_wherever_it_is_hidden(hide, tmp_path):
    target = {"_target_": "os.mkdir", "_args_": [str(tmp_path / "made")]}
    with pytest.raises(UntrustedTargetError, match=r"'os\.mkdir'"):
        instantiate(hide(target))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("escape", ["", "\\"], ids=["plain", "escaped"])
@pytest.mark.parametrize("node", [lambda c: c, OmegaConf.create], ids=["dict", "omegaconf"])
@pytest.mark.parametrize("place", ["argument", "in a list", "target"])
def test_an_interpolation_cannot_become_a_target(node, escape, place, tmp_path):
    """Hydra resolves what it is given once more, after our check."""
    hidden = escape + "${oc.create:{_target_: os.mkdir, _args_: ['%s']}}" % (tmp_path / "made")
    config = {"_target_": CONDITION, "shape": hidden}
    if place == "in a list":
        config["shape"] = [[hidden]]
    elif place == "target":
        config["_target_"] = escape + "${oc.decode:os.mkdir}"
    with pytest.raises(UntrustedTargetError):
        instantiate(node(config))
    assert not (tmp_path / "made").exists()


def test_a_checkpoint_cannot_widen_its_own_trust(tmp_path):
    """`load_policy` as a target could load another configuration with other trusted names."""
    config = {
        "_target_": "diffusion_policy.policy.load_policy.load_policy",
        "path": str(tmp_path),
        "trusted_targets": ["os.system"],
    }
    with pytest.raises(UntrustedTargetError, match="load_policy"):
        instantiate(config)


def test_the_error_says_how_to_allow_it():
    with pytest.raises(UntrustedTargetError, match=r"--trust-target my\.Encoder.*trusted_targets=\[my\.Enc"):
        instantiate({"_target_": "my.Encoder"})


# Mistakes


def test_an_unknown_keyword_is_named_with_its_class():
    with pytest.raises(ValueError, match=r"(?s)NoiseSchedule.*unexpected keyword argument 'n_steps'"):
        instantiate({"_target_": SCHEDULE, "n_steps": 10})


def test_what_a_constructor_says_reaches_the_user_unwrapped():
    with pytest.raises(ValueError, match=r"^beta_schedule must be .* got 'cosine'$"):
        instantiate({"_target_": SCHEDULE, "beta_schedule": "cosine"})


def test_an_unknown_keyword_of_a_partial_is_named_at_once():
    with pytest.raises(ValueError, match=r"sample_ddim: .*unexpected keyword argument 'stepz'"):
        instantiate({"_target_": DDIM, "_partial_": True, "stepz": 10})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("diffusion_policy.model.nothing.Net", r"no module 'diffusion_policy\.model\.nothing'"),
        ("diffusion_policy.model.diffusion.samplers.sample_ddmp", "samplers defines no 'sample_ddmp'"),
    ],
)
def test_a_misspelt_target_is_named(target, message):
    with pytest.raises(ValueError, match=message):
        instantiate({"_target_": target})


def test_a_missing_optional_package_is_not_hidden(monkeypatch, tmp_path):
    """A module of ours that cannot be imported must not be reported as absent."""
    (tmp_path / "module.py").write_text("import no_such_package_anywhere")
    package = types.ModuleType("diffusion_policy.fake")
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        instantiate({"_target_": "diffusion_policy.fake.module.Class"})
