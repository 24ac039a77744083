"""Wrappers around gymnasium environments."""

try:
    import gymnasium  # noqa: F401
except ImportError as error:
    raise ImportError('environments need gymnasium: pip install "diffusion_policy[pusht]"') from error
