"""Diffusion Policy: learn robot skills from demonstrations by denoising chunks of future actions."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusion_policy.policy.load_policy import load_policy

__version__ = "0.1.0"
__all__ = ["__version__", "load_policy"]


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: importing the package alone stays light."""
    if name == "load_policy":
        from diffusion_policy.policy.load_policy import load_policy

        return load_policy
    raise AttributeError(f"module 'diffusion_policy' has no attribute {name!r}")
