"""Diffusion Policy: learn robot skills from demonstrations by denoising chunks of future actions."""

__version__ = "0.1.0"
