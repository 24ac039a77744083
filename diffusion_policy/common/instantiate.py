"""Objects from configurations, without letting a configuration run arbitrary code."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf

TRUSTED_TARGETS = frozenset(
    {"torch.optim.AdamW", "torch.optim.Adam", "torch.optim.SGD", "torch.nn.Identity"},
)
# Elsewhere only classes are targets: functions such as `load_policy` could be told to trust more names.
FUNCTION_PACKAGES = ("diffusion_policy.model.", "diffusion_policy.env.")

_HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}


class UntrustedTargetError(ValueError):
    """A configuration names a class or function that nobody allowed."""


def instantiate(config: Any, trusted: Sequence[str] = (), **kwargs: Any) -> Any:
    """Build the object that `config` describes with `_target_`, as Hydra does, if it may be trusted.

    Args:
        config: plain data or an OmegaConf node; `_partial_: true` gives a partial.
        trusted: further full names that may be built, besides those that `diffusion_policy` defines and a few
            of torch.
        kwargs: further arguments of the outermost target.

    Raises:
        UntrustedTargetError: names the target and how to allow it; or an interpolation is left after resolving.
        ValueError: an argument is unknown, missing or wrong; and whatever else the target raises.
    """
    plain = config
    if isinstance(config, DictConfig | ListConfig):
        plain = OmegaConf.to_container(config, resolve=True)
    nodes = list(_nodes(plain))
    for node in nodes:
        _check_trusted(str(node["_target_"]), trusted)
    _check_resolved(plain)
    for node in nodes:
        if node.get("_partial_"):
            _check_keywords(node)
    try:
        return hydra.utils.instantiate(plain, _convert_="all", **kwargs)
    except InstantiationException as error:
        cause = _first_cause(error)
        if isinstance(cause, TypeError | InstantiationException):  # Hydra's text names the target
            reason = " ".join(str(error).split())
            raise ValueError(f"{reason}; compare the configuration with what it takes") from error
        raise cause from None


def _first_cause(error: BaseException) -> BaseException:
    """What the target itself raised, below Hydra's wrapping."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _nodes(config: Any) -> Iterator[Mapping[str, Any]]:
    """All parts of `config` that have a `_target_`."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield config
        for value in config.values():
            yield from _nodes(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _nodes(value)


def _check_keywords(node: Mapping[str, Any]) -> None:
    """Name an unknown argument of a partial now, not when the partial is called."""
    target = hydra.utils.get_object(node["_target_"])
    keywords = {key: value for key, value in node.items() if key not in _HYDRA_KEYS}
    try:
        signature(target).bind_partial(*node.get("_args_", ()), **keywords)
    except TypeError as error:
        raise ValueError(f"{node['_target_']}: {error}") from error


def _check_resolved(node: Any) -> None:
    """Refuse what Hydra would resolve once more: it could become a target that nobody has checked."""
    if isinstance(node, str) and "${" in node:
        raise UntrustedTargetError(
            f"the configuration holds an unresolved interpolation: {node!r}; remove it"
        )
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            _check_resolved(value)


def _check_trusted(target: str, trusted: Sequence[str]) -> None:
    if target in TRUSTED_TARGETS or target in trusted:
        return
    if not _is_defined_here(target):
        raise UntrustedTargetError(
            f"the configuration asks for {target!r}, which diffusion_policy does not define and nobody allowed. "
            f"If you trust it, name it: --trust-target {target} (or trusted_targets=[{target}] in training)"
        )


def _is_defined_here(target: str) -> bool:
    """Whether a module of this package itself defines `target`, and does not only import it.

    It has to be a class, or a function in `FUNCTION_PACKAGES`.
    """
    module_name, _, name = target.rpartition(".")
    if module_name.split(".")[0] != "diffusion_policy":
        return False
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith("diffusion_policy"):
            raise  # a missing optional package: its own message says what to install
        message = f"the configuration asks for {target!r}, but there is no module {module_name!r}"
        raise ValueError(message) from None
    if not hasattr(module, name):
        raise ValueError(f"the configuration asks for {target!r}, but {module_name} defines no {name!r}")
    found = getattr(module, name)
    if not isinstance(found, type) and not module_name.startswith(FUNCTION_PACKAGES):
        return False
    return getattr(found, "__module__", None) == module_name
