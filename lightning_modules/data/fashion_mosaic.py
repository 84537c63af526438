"""Mosaics of Fashion-MNIST garments: several labels per image, some common and most rare.

They stand in for JFT and FastEval14k (section 4.2), which are internal to Google: 17,000 classes, 36.5 labels
per image, and a metric that weighs classes by how common they are. Here a class is a garment at a place. The
construction is ours.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.data.fashion_mnist import FashionMNIST
from lightning_modules.data.images import Part, frozen_uniforms, hold_out
from lightning_modules.seeding import derive_seed
from lightning_modules.validation import require_integer, require_number, require_one_of

GARMENTS = 10


class FashionMosaic(FashionMNIST):
    """Mosaics of places x places garments, drawn once from Fashion-MNIST's.

    Class g * places^2 + p is garment g at place p, counted by rows. Garments of rank r (class r - 1) are
    drawn with probability proportional to 1 / r^s. Each part shows garments of its own. Mosaics depend only
    on `split_seed` and the sizes. `class_weights` are the drawing probabilities, divided by the number of
    places.

    The arguments are explained in conf/dataset/fashion_mosaic.yaml. Mosaics are never mirrored, because their
    labels name places.

    Raises:
        ValueError: An argument is invalid.
    """

    most_classes = None

    def __init__(
        self,
        *,
        places: int,
        most_garments: int,
        zipf_exponent: float,
        train_mosaics: int,
        validation_mosaics: int,
        test_mosaics: int,
        num_classes: int,
        image_size: int,
        **settings: Any,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            image_size=image_size,
            train_images=None,
            horizontal_flip=False,
            **settings,
        )
        require_integer("dataset.places", places, 1)
        require_integer("dataset.most_garments", most_garments, 1, places**2)
        require_number("dataset.zipf_exponent", zipf_exponent, 0)
        require_integer("dataset.train_mosaics", train_mosaics, 1)
        require_integer("dataset.validation_mosaics", validation_mosaics, 1)
        require_integer("dataset.test_mosaics", test_mosaics, 1)
        if num_classes != GARMENTS * places**2:
            raise ValueError(
                f"dataset.num_classes={num_classes}: must be {GARMENTS * places**2}, each of {GARMENTS} "
                f"garments at each of {places} x {places} places"
            )
        require_one_of("dataset.channels", self.channels, (1,))
        self.places = places
        self.most_garments = most_garments
        self.mosaics = {"train": train_mosaics, "validation": validation_mosaics, "test": test_mosaics}
        rarity = np.arange(1, GARMENTS + 1) ** float(zipf_exponent)
        self.commonness = 1 / rarity / (1 / rarity).sum()

    def make_parts(self, train: Part, test: Part) -> dict[str, Part]:
        """Mosaics of each part, from the files' garments."""
        size = train.images.shape[-1]
        cell, uneven = divmod(self.image_size, self.places)
        if uneven or not cell or size % cell:
            raise ValueError(
                f"dataset.image_size={self.image_size}: must be {self.places} times a divisor of {size}, the "
                "size of a garment"
            )
        kept, held_out = hold_out(train, GARMENTS, self.validation_images, self.split_seed)
        garments = {"train": kept, "validation": held_out, "test": test}
        weights = np.repeat(self.commonness / self.places**2, self.places**2)
        self.class_weights = torch.tensor(weights, dtype=torch.float32)
        return {
            name: draw_mosaics(
                Part(shrink(part.images, size // cell), part.labels),
                self.mosaics[name],
                places=self.places,
                most_garments=self.most_garments,
                commonness=self.commonness,
                seed=derive_seed(self.split_seed, "mosaics", name),
            )
            for name, part in garments.items()
        }


def shrink(images: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average factor x factor pixels of images (N, C, H, W), rounded."""
    count, channels, height, width = images.shape
    blocks = images.reshape(count, channels, height // factor, factor, width // factor, factor)
    total = blocks.sum(axis=(3, 5), dtype=np.uint32)
    return ((total + factor**2 // 2) // factor**2).astype(np.uint8)


def draw_mosaics(
    garments: Part,
    count: int,
    *,
    places: int,
    most_garments: int,
    commonness: NDArray[np.float64],
    seed: int,
) -> Part:
    """Draw mosaics, the same in every version of NumPy.

    Args:
        garments: Images (N, 1, H, W) and their kinds.
        count: Number of mosaics.
        places, most_garments: As `FashionMosaic`.
        commonness: Probability of each kind, (G,).
        seed: Seeds the draws.

    Returns:
        Images (count, 1, places H, places W), black where empty, and labels (count, G places^2).
    """
    cells, kinds = places**2, len(commonness)
    uniforms = frozen_uniforms((count, 1 + 3 * cells), seed)
    how_many, where, what, which = np.split(uniforms, [1, 1 + cells, 1 + 2 * cells], axis=1)
    # The places with the smallest draws get a garment.
    rank = where.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    occupied = rank < 1 + np.floor(how_many * most_garments)
    # Without the last bound, which rounding may put below a draw.
    kind = np.searchsorted(commonness.cumsum()[:-1], what, side="right")

    of_kind = np.bincount(garments.labels, minlength=kinds)
    first_of_kind = of_kind.cumsum() - of_kind
    by_kind = garments.labels.argsort(kind="stable")
    chosen = by_kind[first_of_kind[kind] + np.floor(which * of_kind[kind]).astype(np.int64)]

    height, width = garments.images.shape[2:]
    images = garments.images[chosen, 0] * occupied[:, :, None, None]
    images = images.reshape(count, places, places, height, width).transpose(0, 1, 3, 2, 4)
    labels = np.zeros((count, kinds, cells), np.uint8)
    mosaic, cell = np.nonzero(occupied)
    labels[mosaic, kind[mosaic, cell], cell] = 1
    return Part(
        images.reshape(count, 1, places * height, places * width), labels.reshape(count, kinds * cells)
    )
