"""Run a trained policy in Push-T, step by step, as on a robot: `python examples/run_pusht.py RUN`."""

import sys

from diffusion_policy import load_policy
from diffusion_policy.env.pusht.pusht_keypoints_env import PushTKeypointsEnv

policy = load_policy(sys.argv[1])
env = PushTKeypointsEnv(legacy=True)
obs, _ = env.reset(seed=100000)
policy.reset([100000])
best = 0.0
for _ in range(300):
    obs, reward, terminated, _, _ = env.step(policy.act(obs))
    best = max(best, reward)
    if terminated:
        break
print(f"best coverage of the goal, as a share of what counts as success: {best:.3f}")
