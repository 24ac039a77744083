"""Train a policy: `python train.py task=pusht_lowdim`; what can be set: `python train.py --help`."""

from diffusion_policy.cli import train_main

if __name__ == "__main__":
    train_main()
