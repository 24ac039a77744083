"""Size, and time to decode, of one image in each codec: `python benchmarks/image_codecs.py DATA KEY`, as Markdown.

On one core; means over images that lie evenly spaced in the demonstrations.
"""

import argparse
import time

import numpy as np

from diffusion_policy.common.chunking import named_compressor
from diffusion_policy.dataset.episode_files import load_episodes

CODECS = ("default", "disk", "jpeg2k", "jpegxl")
N_IMAGES = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="demonstrations in any format")
    parser.add_argument("key", help="of the images")
    options = parser.parse_args()
    buffer = load_episodes(options.data, [options.key])
    rows = np.linspace(0, buffer.n_steps - 1, N_IMAGES).round().astype(int)
    images = np.ascontiguousarray(buffer[options.key][rows])  # (N, H, W, C)
    print(f"| codec | bytes of one image {images.shape[1:]} | ms to decode it |\n| --- | --- | --- |")
    for name in CODECS:
        size, seconds = measure(name, images)
        print(f"| {name} | {size:,.0f} | {1000 * seconds:.2f} |")


def measure(name: str, images: np.ndarray) -> tuple[float, float]:
    """Mean bytes and seconds of one image."""
    codec = named_compressor(name)
    assert codec is not None, "every name stands for a codec"
    encoded = [codec.encode(image[None]) for image in images]
    start = time.perf_counter()
    for content in encoded:
        codec.decode(content)
    return float(np.mean([len(content) for content in encoded])), (time.perf_counter() - start) / len(images)


if __name__ == "__main__":
    main()
