"""From an encoded image to an RGB square: decoding and crops.

Pillow decodes (libjpeg-turbo) and resizes a crop in one pass; both release the GIL.

The paper states no augmentation. Ours is a random resized crop with horizontal flips for training (Szegedy et
al. 2015, arXiv:1409.4842, section 6) and a central crop for evaluation.
"""

import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""

ATTEMPTS = 10
"""Draws of a crop before the central one is used, as in torchvision's RandomResizedCrop."""


class UndecodableImage(ValueError):
    """An image that is damaged, unreadable, or of a kind without known colours."""


def decode_rgb(source: bytes | Path) -> Image.Image:
    """Decode to RGB, 8 bits, rotated by its EXIF orientation.

    Grey becomes three equal channels, 16 bits lose their lower 8, transparency becomes white, CMYK and
    palettes are converted.

    Raises:
        UndecodableImage: It cannot be read or decoded.
    """
    try:
        # Warnings about a damaged EXIF block or a very large image do not matter.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image,
        ):
            image.load()
            return _as_rgb(ImageOps.exif_transpose(image))
    # Pillow raises many types for damaged files: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UndecodableImage(why) from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):  # convert() would clip at 255
        values = np.asarray(image).astype(np.int64).clip(0, 2**16 - 1)
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("the range of floating-point pixels is unknown")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class Crops:
    """Square crops of images, resized (bilinear, antialiased).

    Attributes:
        image_size: Height and width of the square, in pixels.
        horizontal_flip: Whether training images are mirrored with probability 0.5.
        min_crop_area: Smallest share of an image in a training crop, in (0, 1].
        max_aspect_ratio: Largest ratio of a training crop's sides, from 1; log-uniform.
        eval_crop_share: Side of the central evaluation crop, as a share of the image's shorter side.
    """

    image_size: int
    horizontal_flip: bool
    min_crop_area: float
    max_aspect_ratio: float
    eval_crop_share: float

    def empty(self, images: int) -> Tensor:
        """Memory for a batch, uint8 (N, 3, image_size, image_size), in Pillow's memory order."""
        return torch.empty(images, self.image_size, self.image_size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)

    def for_training(self, image: Image.Image, uniforms: Tensor) -> Tensor:
        """A random crop of an RGB image, perhaps mirrored, uint8 (3, image_size, image_size).

        `uniforms`, float64 (3,) in [0, 1), are the flip and the crop's seed; the last is unused.
        """
        # A generator per image, because crops take different numbers of draws.
        draws = torch.Generator().manual_seed(int(uniforms[1] * 2**53))
        square = self._resized(image, self._random_box(*image.size, draws))
        return square.flip(-1) if self.horizontal_flip and uniforms[0] < 0.5 else square

    def for_evaluation(self, image: Image.Image) -> Tensor:
        """The central crop, uint8 (3, image_size, image_size); equals resizing, then cropping."""
        side = self.eval_crop_share * min(image.size)
        return self._resized(image, _central_box(*image.size, side, side))

    def _resized(self, image: Image.Image, box: Box) -> Tensor:
        size = (self.image_size, self.image_size)
        square = image.resize(size, Image.Resampling.BILINEAR, box=box)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)

    def _random_box(self, width: int, height: int, draws: torch.Generator) -> Box:
        """Draw area and aspect ratio until they fit, then the position, as RandomResizedCrop does."""
        uniforms = torch.rand(ATTEMPTS + 1, 2, dtype=torch.float64, generator=draws).tolist()
        across, down = uniforms.pop()
        for of_area, of_ratio in uniforms:
            area = width * height * (self.min_crop_area + of_area * (1 - self.min_crop_area))
            ratio = self.max_aspect_ratio ** (2 * of_ratio - 1)
            crop_width, crop_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if crop_width <= width and crop_height <= height:
                left, top = across * (width - crop_width), down * (height - crop_height)
                # Rounding may exceed the image, which Pillow refuses.
                return left, top, min(left + crop_width, width), min(top + crop_height, height)
        return _central_box(
            width,
            height,
            min(width, height * self.max_aspect_ratio),
            min(height, width * self.max_aspect_ratio),
        )


def _central_box(width: int, height: int, crop_width: float, crop_height: float) -> Box:
    left, top = (width - crop_width) / 2, (height - crop_height) / 2
    return left, top, left + crop_width, top + crop_height
