"""Simulated tasks. Importing this package registers them, so that `gymnasium.make(id)` finds them.

Only gymnasium is imported; a simulator is imported when an environment of it is made.
"""

try:
    import gymnasium
except ImportError as error:
    raise ImportError('simulated tasks need gymnasium: pip install "diffusion_policy[pusht]"') from error

gymnasium.register("diffusion_policy/PushT-v0", "diffusion_policy.env.pusht.pusht_env:PushTEnv")
gymnasium.register(
    "diffusion_policy/PushTKeypoints-v0", "diffusion_policy.env.pusht.pusht_keypoints_env:PushTKeypointsEnv"
)
gymnasium.register(
    "diffusion_policy/PushTImage-v0", "diffusion_policy.env.pusht.pusht_image_env:PushTImageEnv"
)
gymnasium.register("diffusion_policy/Kitchen-v0", "diffusion_policy.env.kitchen.kitchen_env:KitchenEnv")
gymnasium.register(
    "diffusion_policy/Robomimic-v0", "diffusion_policy.env.robomimic.robomimic_env:RobomimicEnv"
)
