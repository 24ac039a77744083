"""Demonstrate Push-T with the mouse: `python demo_pusht.py -o data/pusht_demo.zarr`."""

from diffusion_policy.scripts.demonstrations.demo_pusht import main

if __name__ == "__main__":
    main()
