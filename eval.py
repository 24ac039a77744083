"""Score a checkpoint: `python eval.py --checkpoint RUN --output_dir OUT`."""

from diffusion_policy.cli import eval_main

if __name__ == "__main__":
    eval_main()
