"""Push-T: push a T-shaped block onto its outline with a disc (Florence et al. 2021; Chi et al. 2023)."""

from diffusion_policy.env.pusht.geometry import BLOCK_KEYPOINTS, GOAL_POSE, block_keypoints, coverage

__all__ = ["BLOCK_KEYPOINTS", "GOAL_POSE", "block_keypoints", "coverage"]
