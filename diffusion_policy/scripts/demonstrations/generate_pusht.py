"""Make Push-T demonstrations without any person, by the scripted expert.

diffusion-policy data generate pusht data/pusht/generated.zarr --n_episodes 200
"""

import numpy as np

from diffusion_policy.env.pusht.geometry import block_keypoints
from diffusion_policy.env.pusht.pusht_env import PushTEnv
from diffusion_policy.env.pusht.scripted_pusher import ScriptedPusher
from diffusion_policy.scripts.demonstrations.generate import Demonstration

MAX_STEPS = 300


def demonstrate_pusht(seed: int) -> Demonstration:
    """Let the expert solve Push-T from the start that `seed` gives, in at most 300 steps.

    Steps are as in the human set, without images: `state` (L, 5), `keypoint` (L, 9, 2), `action` (L, 2); float32. The
    start is that of `reset(seed=seed, options={"legacy": True})`; the actions replayed from there lead to the
    states, of which images can be rendered.
    """
    env, pusher = PushTEnv(legacy=True), ScriptedPusher(seed)
    state, info = env.reset(seed=seed)
    states, keypoints = [], []
    actions: list[np.ndarray] = []
    while len(actions) < MAX_STEPS and not info["is_success"]:
        action = pusher.act(info["pos_agent"], info["block_pose"])
        states.append(state)
        keypoints.append(block_keypoints(info["block_pose"]))
        actions.append(action)
        state, _, _, _, info = env.step(action)
    steps = {"state": states, "keypoint": keypoints, "action": actions}
    arrays = {key: np.array(values, dtype=np.float32) for key, values in steps.items()}
    measured = {"final_coverage": float(info["coverage"])}
    return Demonstration(seed, arrays, bool(info["is_success"]), measured)
